"""A webhook: where the end of a job or a run is announced, and how far its delivery is."""

from base64 import b64decode
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from schemas.common import Document, Request

MAX_URL_LENGTH = 2000
SECRET_PREFIX = "whsec_"  # noqa: S105 - of Standard Webhooks; it says what follows
MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64

DeliveryState = Literal["waiting", "retrying", "delivered", "given_up"]


def secret_key(secret: str) -> bytes:
    """The key in a secret of Standard Webhooks.

    Raises:
        ValueError: it is not ``whsec_`` and 24 to 64 bytes in base64.
    """
    try:
        key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"expected {SECRET_PREFIX} and {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes in base64")
    return key


def _checked_secret(secret: str) -> str:
    secret_key(secret)
    return secret


class Webhook(Request):
    """Where the end of the work is announced with a POST request, and the secret that signs it."""

    url: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_URL_LENGTH,
            description="An https address on the public internet.",
            examples=["https://example.com/hooks/forecast"],
        ),
    ]
    secret: Annotated[
        Annotated[str, AfterValidator(_checked_secret)] | None,
        Field(
            max_length=100,
            repr=False,
            description="``whsec_`` and 24 to 64 random bytes in base64. Without it, the messages have no signature. "
            "No answer contains it.",
        ),
    ] = None


OnEnd = Annotated[Webhook | None, Field(description="Where to announce the end of the work.")]


class WebhookStatus(Document):
    """How far the announcement of an end is. The path of the address and the secret are not shown."""

    host: str = Field(description="Host name of the address.")
    state: DeliveryState = Field(
        description="``waiting`` for the end or the first attempt, ``retrying`` after a failed attempt, ``delivered``, "
        "or ``given_up`` after three days or an answer of 410."
    )
    attempts: int
    last_error: str | None = Field(description="Why the last attempt failed.")
    next_attempt_at: datetime | None = Field(description="No earlier than this; null where there is none to come.")


class Delivery(Document):
    """The announcement of one end, as the store keeps it; without address and secret, which its job or run has."""

    id: str = Field(description="The header ``webhook-id``: the same in every attempt.")
    created_at: datetime
    attempts: int = 0
    first_attempt_at: datetime | None = None
    next_attempt_at: datetime | None = None
    last_error: str | None = None
    state: DeliveryState = "waiting"
