"""What surrounds every request, as pure ASGI: its id, and a bound on its body."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "X-Request-Id"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(request: Request) -> str:
    """The id under which this request is logged and answered."""
    request_id: str = request.scope.get("request_id", "")
    return request_id


class RequestIdMiddleware:
    """Takes a caller's well-formed request id or makes one, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = scope["request_id"] = given if _ACCEPTABLE.fullmatch(given) else uuid.uuid4().hex

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class BodyLimitMiddleware:
    """Refuses to read more than ``max_bytes`` of a body, announced or not, with 413.

    Starlette's own limit answers in plain text; this one raises where the body
    is read, so that the answer is a problem like every other.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("Content-Length", "")
        n_announced = int(announced) if announced.isdecimal() and len(announced) < 16 else 0  # the rest is counted
        n_read = 0

        async def receive_bounded() -> Message:
            nonlocal n_read
            self._check(n_announced)
            message = await receive()
            n_read += len(message.get("body", b""))
            self._check(n_read)
            return message

        await self.app(scope, receive_bounded, send)

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            raise HTTPException(413, f"the body is larger than {self.max_bytes} bytes")
