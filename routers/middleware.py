"""The middleware around every request, as pure ASGI: request id, metrics, access log, compression, body limit."""

import logging
import re
import time
import uuid

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.logs import REQUEST_ID
from telemetry.measures import ACTIVE_REQUESTS, REQUEST_SECONDS, REQUESTS, Meter

REQUEST_ID_HEADER = "X-Request-Id"
UNMATCHED = "unmatched"  # one label for all paths without a route, so that a scanner cannot fill the memory
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
MIN_GZIP_BYTES = 1_000  # a smaller body fits into one packet either way
GZIP_LEVEL = 6  # on 1.8 MB of JSON, level 9 takes five times as long and saves 4 % more

access_log = logging.getLogger("access")
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def add_middleware(app: Starlette, meter: Meter, max_body_bytes: int) -> None:
    """Wrap the application, innermost layer first; the time that is measured includes the compression."""
    app.add_middleware(BodyLimitMiddleware, max_bytes=max_body_bytes)
    app.add_middleware(GZipMiddleware, minimum_size=MIN_GZIP_BYTES, compresslevel=GZIP_LEVEL)
    app.add_middleware(MeasureMiddleware, meter=meter)
    app.add_middleware(RequestIdMiddleware)


def request_id_of(request: Request) -> str:
    request_id: str = request.scope.get("request_id", "")
    return request_id


class RequestIdMiddleware:
    """Takes a caller's well-formed request id or makes one, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = scope["request_id"] = sent if _WELL_FORMED_ID.fullmatch(sent) else uuid.uuid4().hex
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


class MeasureMiddleware:
    """Counts and times every request, and writes the access log.

    Routes are named by their templates, never by their paths. A route that crashes
    counts as a 500, which is what its caller gets.
    """

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self.app = app
        self._meter = meter
        self._n_active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def send_and_keep_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._count_active(+1)
        try:
            await self.app(scope, receive, send_and_keep_status)
        except BaseException:
            status = 500  # also when it failed after the answer had begun
            raise
        finally:
            self._count_active(-1)
            self._record(scope, status, time.perf_counter() - started)

    def _count_active(self, change: int) -> None:
        self._n_active += change
        self._meter.record(ACTIVE_REQUESTS, self._n_active)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
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
    """The HTTP method, ``OTHER`` for an unknown word."""
    return scope["method"] if scope["method"] in METHODS else "OTHER"


def endpoint_of(scope: Scope) -> str:
    """The template of the route that answered."""
    return getattr(scope.get("route"), "path_format", UNMATCHED)


class BodyLimitMiddleware:
    """Answers 413 where a body is larger than ``max_bytes``, by its Content-Length or as it is read.

    Starlette's own limit answers in plain text; this one raises where the body
    is read, so that the answer is a problem document like every other error.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("Content-Length", "")
        n_announced = int(announced) if announced.isdecimal() and len(announced) < 16 else 0  # else counted as read
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
