"""The middleware around every request, as pure ASGI: request id, metrics, access log, security headers, compression."""

import logging
import re
import time
import uuid
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config import Settings
from routers.admission import AdmissionMiddleware
from telemetry.logs import REQUEST_ID
from telemetry.measures import ACTIVE_REQUESTS, REQUEST_SECONDS, REQUESTS, REQUESTS_BY_KEY, Meter

REQUEST_ID_HEADER = "X-Request-Id"
UNMATCHED = "unmatched"  # one label for all paths without a route, so that a scanner cannot fill the memory
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
MIN_GZIP_BYTES = 1_000  # a smaller body fits into one packet either way
GZIP_LEVEL = 6  # on 1.8 MB of JSON, level 9 takes five times as long and saves 4 % more

# Pages have policies of their own. Other answers load nothing and stand in no frame, whatever a browser takes them for.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

access_log = logging.getLogger("access")
_WELL_FORMED_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def add_middleware(app: Starlette, meter: Meter, settings: Settings) -> None:
    """Wrap the application, innermost layer first; the time that is measured includes the compression."""
    app.add_middleware(GZipMiddleware, minimum_size=MIN_GZIP_BYTES, compresslevel=GZIP_LEVEL)
    app.add_middleware(
        AdmissionMiddleware,
        allowed_hosts=settings.allowed_hosts,
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        max_active=settings.max_active_requests,
        max_at_work=settings.max_requests_at_work,
    )
    app.add_middleware(RequestMiddleware, meter=meter)


def request_id_of(request: Request) -> str:
    request_id: str = request.scope.get("request_id", "")
    return request_id


class RequestMiddleware:
    """Gives every request an id and every answer its security headers; counts and times it, and writes the access log.

    A caller's well-formed request id is kept. Routes are named by their templates, never by their paths. A route that
    crashes counts as a 500, which is what its caller gets.
    """

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self.app = app
        self._meter = meter
        self._n_active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, sent_id = 500, Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = scope["request_id"] = sent_id if _WELL_FORMED_ID.fullmatch(sent_id) else uuid.uuid4().hex
        REQUEST_ID.set(request_id)
        access: dict[str, Any] = {}  # what the guard of the route finds: the name of the API key, fields of the answer
        scope["access"] = access

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({REQUEST_ID_HEADER: request_id, **access.get("fields", {})})
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        started = time.perf_counter()
        self._n_active += 1
        self._meter.record(ACTIVE_REQUESTS, self._n_active)
        try:
            await self.app(scope, receive, send_with_id)
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
