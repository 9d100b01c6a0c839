"""What surrounds every request, as pure ASGI: its id, its measurements, and a bound on its body."""

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.logs import REQUEST_ID
from telemetry.measures import ACTIVE_REQUESTS, REQUEST_SECONDS, REQUESTS, Meter

REQUEST_ID_HEADER = "X-Request-Id"
UNMATCHED = "unmatched"  # one label for every path that is no route: a scanner must not fill the memory

access_log = logging.getLogger("access")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
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
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class MeasureMiddleware:
    """Counts and times every request, and writes the access log.

    Routes are named by their templates, never by their paths. A route that crashes
    counts as the 500 that its caller gets.
    """

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self.app = app
        self._meter = meter
        self._n_active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._count_active(+1)
        try:
            await self.app(scope, receive, send_noting_status)
        except BaseException:
            status = 500  # also when it broke in mid-answer
            raise
        finally:
            self._count_active(-1)
            self._note(scope, status, time.perf_counter() - started)

    def _count_active(self, change: int) -> None:
        self._n_active += change
        self._meter.record(ACTIVE_REQUESTS, self._n_active)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, endpoint = method_of(scope), endpoint_of(scope)
        self._meter.record(REQUESTS, method=method, endpoint=endpoint, status=str(status))
        self._meter.record(REQUEST_SECONDS, seconds, method=method, endpoint=endpoint)
        milliseconds = round(1000 * seconds, 1)
        access_log.info(
            "%s %s %d %.1f ms",
            method,
            endpoint,
            status,
            milliseconds,
            extra={"method": method, "endpoint": endpoint, "status": status, "duration_ms": milliseconds},
        )


def method_of(scope: Scope) -> str:
    """The method, where it is one that exists; a caller can send any word."""
    return scope["method"] if scope["method"] in METHODS else "OTHER"


def endpoint_of(scope: Scope) -> str:
    """The template of the route that answered."""
    return getattr(scope.get("route"), "path_format", UNMATCHED)


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
