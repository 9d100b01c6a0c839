"""The middleware around every request, as pure ASGI: request id, metrics, access log, compression, body limit."""

import logging
import re
import time
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from telemetry.logs import REQUEST_ID
from telemetry.measures import ACTIVE_REQUESTS, REQUEST_SECONDS, REQUESTS, REQUESTS_BY_KEY, Meter

REQUEST_ID_HEADER = "X-Request-Id"
UNMATCHED = "unmatched"  # one label for all paths without a route, so that a scanner cannot fill the memory
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
MIN_GZIP_BYTES = 1_000  # a smaller body fits into one packet either way
GZIP_LEVEL = 6  # on 1.8 MB of JSON, level 9 takes five times as long and saves 4 % more

access_log = logging.getLogger("access")
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def add_middleware(app: Starlette, meter: Meter, max_body_bytes: int) -> None:
    """Wrap the application, innermost layer first; the time that is measured includes the compression."""
    app.add_middleware(GZipMiddleware, minimum_size=MIN_GZIP_BYTES, compresslevel=GZIP_LEVEL)
    app.add_middleware(RequestMiddleware, meter=meter, max_body_bytes=max_body_bytes)


def request_id_of(request: Request) -> str:
    request_id: str = request.scope.get("request_id", "")
    return request_id


class RequestMiddleware:
    """Gives every request an id and bounds its body; counts and times it, and writes the access log.

    A caller's well-formed request id is kept. Routes are named by their templates, never by their paths. A route that
    crashes counts as a 500, which is what its caller gets. A body that is too large by its Content-Length, or as it is
    read, raises where it is read: Starlette's own limit would answer in plain text rather than with a problem document.
    """

    def __init__(self, app: ASGIApp, meter: Meter, max_body_bytes: int) -> None:
        self.app = app
        self._meter = meter
        self._max_body_bytes = max_body_bytes
        self._n_active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, status, n_read = Headers(scope=scope), 500, 0
        sent_id, announced = headers.get(REQUEST_ID_HEADER, ""), headers.get("Content-Length", "")
        n_announced = int(announced) if announced.isdecimal() and len(announced) < 16 else 0  # else counted as read
        request_id = scope["request_id"] = sent_id if _WELL_FORMED_ID.fullmatch(sent_id) else uuid.uuid4().hex
        REQUEST_ID.set(request_id)
        access: dict[str, Any] = {}  # what the guard of the route finds: the name of the API key, fields of the answer
        scope["access"] = access

        async def receive_bounded() -> Message:
            nonlocal n_read
            message: Message = {} if n_announced > self._max_body_bytes else await receive()
            n_read += len(message.get("body", b""))
            if max(n_announced, n_read) > self._max_body_bytes:
                raise HTTPException(413, f"the body is larger than {self._max_body_bytes} bytes")
            return message

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({REQUEST_ID_HEADER: request_id, **access.get("fields", {})})
            await send(message)

        started = time.perf_counter()
        self._n_active += 1
        self._meter.record(ACTIVE_REQUESTS, self._n_active)
        try:
            await self.app(scope, receive_bounded, send_with_id)
        except BaseException:
            status = 500  # also when it failed after the answer had begun
            raise
        finally:
            seconds = time.perf_counter() - started
            self._n_active -= 1
            method = scope["method"] if scope["method"] in METHODS else "OTHER"
            endpoint = getattr(scope.get("route"), "path_format", UNMATCHED)
            facts = {"method": method, "endpoint": endpoint, "status": status, "duration_ms": round(1000 * seconds, 1)}
            self._meter.record(ACTIVE_REQUESTS, self._n_active)
            self._meter.record(REQUESTS, method=method, endpoint=endpoint, status=str(status))
            self._meter.record(REQUEST_SECONDS, seconds, method=method, endpoint=endpoint)
            if (key := access.get("key")) is not None:
                facts["key"] = key
                self._meter.record(REQUESTS_BY_KEY, key=key, status=str(status))
            access_log.info("%s %s %d %.1f ms" + " key %s" * ("key" in facts), *facts.values(), extra=facts)
