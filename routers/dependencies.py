"""Dependencies of the routes: the runtime, and the check of dates."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from bootstrap import Runtime


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


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
