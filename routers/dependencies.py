"""Dependencies of the routes: the runtime, and the check of the API key."""

import secrets
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader

from bootstrap import Runtime
from errors import AccessNotConfigured, NotAuthenticated

_API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="Only where the server has an API_KEY.")


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


async def validate_api_key(runtime: RuntimeDep, given: Annotated[str | None, Security(_API_KEY)]) -> None:
    """Check the request's API key where one is set; on Lambda, where the address may be public, one must be.

    Raises:
        NotAuthenticated: the key is missing or wrong.
        AccessNotConfigured: a Lambda function has neither a key nor the setting that does without.
    """
    if runtime.settings.api_key is None:
        if runtime.settings.on_lambda and not runtime.settings.open:
            raise AccessNotConfigured(
                "this function has no API_KEY; set one, or OPEN=yes if AWS_IAM guards its address"
            )
        return
    expected = runtime.settings.api_key.get_secret_value()
    if given is None or not secrets.compare_digest(given.encode(), expected.encode()):
        raise NotAuthenticated("the header X-API-Key is missing or wrong")


def validate_not_future(now: datetime, where: str = "body", /, **dates: date | None) -> None:
    """Answer 422 for a date that is in the future in every time zone; the error names its field in ``where``."""
    today = (now.astimezone(UTC) + timedelta(hours=14)).date()
    errors = [
        {"type": "date_in_future", "loc": (where, name), "msg": f"{day} is in the future"}
        for name, day in dates.items()
        if day is not None and day > today
    ]
    if errors:
        raise RequestValidationError(errors)
