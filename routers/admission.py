"""What every request passes before its route, as pure ASGI: limits of hosts, bodies, and requests answered at once."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from errors import AppError, BadRequest, HostNotAllowed
from routers.hosts import allowed_names, host_name, is_allowed
from routers.problems import problem_of, problem_response
from routers.turns import Turns, begin

ALWAYS_ANSWERED = "/up"  # else a busy server would count as dead


class AdmissionMiddleware:
    """Refuses what is too large, too slow, too much or for another host, and routes the rest.

    A body that is too large by its Content-Length, or as it is read, and one that is too slow, raises where it is read.
    A request with a body counts as active once it is complete: slow senders leave room for others.

    HEAD is answered as GET, without the body. A redirect to the same host becomes relative: behind a proxy, this server
    knows neither the name nor the scheme.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: str | None,
        max_body_bytes: int,
        body_timeout_s: float,
        max_active: int,
        max_at_work: int,
    ) -> None:
        self.app = app
        self._allowed = None if allowed_hosts is None else allowed_names(allowed_hosts)
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._turns = Turns(max_active, max_at_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        body = _Body(headers, receive, self._max_body_bytes, self._body_timeout_s)
        is_head = scope["method"] == "HEAD"
        routed = {**scope, "method": "GET"} if is_head else scope
        try:
            begin(scope, refusable=scope["path"] != ALWAYS_ANSWERED)
            self._validate_host(headers, scope)
            await self._admit(routed, body)
        except AppError as refusal:
            await _refusal(refusal, headers, scope.get("request_id", ""))(scope, receive, send)
            return

        async def receive_bounded() -> Message:
            was_complete, message = body.complete, await body.receive()
            if body.complete and not was_complete:
                try:
                    await self._admit(routed, body)
                except AppError as refusal:  # FastAPI takes other errors of a body for malformed JSON
                    retry_after = {"Retry-After": str(refusal.retry_after_s)}
                    raise HTTPException(refusal.status_code, refusal.message, retry_after) from refusal
            return message

        async def send_fitting(message: Message) -> None:
            if message["type"] == "http.response.start":
                _make_relative(MutableHeaders(scope=message), headers.get("host", ""))
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        try:
            await self.app(routed, receive_bounded, send_fitting)
        finally:
            self._turns.give_back(routed)
            scope.setdefault("route", routed.get("route"))  # for metrics and the log

    async def _admit(self, scope: Scope, body: "_Body") -> None:
        if scope["path"] == ALWAYS_ANSWERED:
            return
        if body.complete:
            await self._turns.take(scope)
        else:
            self._turns.validate_room()

    def _validate_host(self, headers: Headers, scope: Scope) -> None:
        if self._allowed is None and "aws.event" in scope:
            return  # AWS routes by the name, and only this function's own names lead here
        hosts = headers.getlist("host")
        if not hosts and scope.get("http_version") == "1.0":
            return  # only HTTP/1.0 may do without, and no browser does
        name = host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            raise BadRequest("expected one header Host with a name or an address")
        if not is_allowed(name, self._allowed, scope):
            raise HostNotAllowed(f"this server does not answer for {name[:100]!r}; ALLOWED_HOSTS can name it")


class _Body:
    """The body of a request, which raises as it is read once it is too large or too slow."""

    def __init__(self, headers: Headers, receive: Receive, max_bytes: int, timeout_s: float) -> None:
        announced = headers.get("Content-Length", "")
        self.complete = announced in ("", "0") and "Transfer-Encoding" not in headers
        self._n_announced = int(announced) if announced.isdecimal() and len(announced) < 16 else 0  # else as read
        self._n_read = 0
        self._receive = receive
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s

    async def receive(self) -> Message:
        if self._n_announced > self._max_bytes:
            raise self._too_large()
        message = await (self._receive() if self.complete else self._receive_in_time())
        self._n_read += len(message.get("body", b""))
        if self._n_read > self._max_bytes:
            raise self._too_large()
        self.complete = self.complete or not message.get("more_body", False)
        return message

    async def _receive_in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the body took longer than {self._timeout_s:g} s", {"Connection": "close"}
            ) from None

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"the body is larger than {self._max_bytes} bytes")


def _refusal(error: AppError, request: Headers, request_id: str) -> JSONResponse:
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return problem_response(problem_of(error, request_id), request.get("Accept-Language"), headers)


def _make_relative(headers: MutableHeaders, host: str) -> None:
    location = urlsplit(headers.get("Location", ""))
    if host and location.netloc == host:
        path = "/" + location.path.lstrip("/")  # two slashes would begin the name of another host
        headers["Location"] = urlunsplit(("", "", path, location.query, location.fragment))
