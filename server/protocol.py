"""uvicorn's protocol, with time limits for clients that send nothing, slowly, or do not take in their answer.

uvicorn itself limits only the pause after an answer, until the first byte of the next request. This class works over
h11 and over httptools, whichever is installed, and with every command that takes uvicorn's option ``--http``:

    uvicorn --http server.protocol:LimitedProtocol app:app

Its limits are those of the application's settings, which come to it in the state of the lifespan.
"""

import asyncio
import socket
import time
from asyncio.trsock import TransportSocket
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from errors import AppError, BadRequest, HeadersTooLarge, RequestTimeout, ServerBusy
from schemas.problem import Problem
from server.limits import ARRIVED, STATE, Arrival, Connections

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Protocol
else:
    from uvicorn.protocols.http.auto import AutoHTTPProtocol as _Protocol

MAX_HEAD_BYTES = 64 * 1024  # h11's own limit; httptools has none
MIN_TAKEN_BYTES = 10_000  # of an answer, within each time limit
RETRY_AFTER_S = 1


class LimitedProtocol(_Protocol):
    """Closes a connection whose client has kept it waiting for too long.

    The client is waited for from the connection, or the last answer, to the complete head of a request; and while it
    takes in no more of its answer. Data that comes drop by drop does not start the time again. While the application
    works no time runs here; it limits the time for bodies itself, where it can answer with a problem document.
    """

    _timer: asyncio.TimerHandle | None = None
    _unsent = 0  # bytes, when the timer started
    _is_new = True  # whether no request has come yet
    _n_head = 0  # bytes of a request whose head is not complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        send_at_once(transport.get_extra_info("socket"))
        self._limits: Connections = self.app_state.get(STATE) or Connections()
        if not self._limits.make_room(len(self.connections)):
            self._refuse(ServerBusy("too many connections are open; try again later", retry_after_s=RETRY_AFTER_S))
        self._watch()

    def data_received(self, data: bytes) -> None:
        idle = not self._active
        super().data_received(data)
        if idle and self._active:
            # its task waits for those of all requests before it
            scope = cast("dict[str, Any]", self.cycle.scope)
            queue_s = self._limits.queue_s if self._is_new else 0.0
            scope[ARRIVED] = Arrival(time.monotonic() - queue_s, self._limits)
            self._limits.n_unstarted += 1
            self._is_new = False
        if idle and not self._active and self._answered_whole_request:
            self._n_head += len(data)
            if self._n_head > MAX_HEAD_BYTES:
                self._refuse(HeadersTooLarge(f"the head of the request is larger than {MAX_HEAD_BYTES} bytes"))
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._n_head = 0
        self._stop_timer()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def eof_received(self) -> None:
        super().eof_received()
        if self._timer is None:
            self._start_timer()  # the transport closes once the answer's rest is sent, which may be never

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._limits.waiting.pop(self, None)
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which uvicorn leaves running after an abort
        self._stop_timer()

    def abort(self) -> None:
        """Close at once, without sending what is still unsent."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refuse(BadRequest(f"this is not HTTP that the server understands: {msg[:1].lower()}{msg[1:].strip('.')}"))

    def _should_upgrade(self) -> bool:
        return False  # there are no WebSockets here

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing to warn of: the request is answered as if it had not asked for an upgrade."""

    @property
    def _active(self) -> bool:
        """Whether the application works on a request."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _answered_whole_request(self) -> bool:
        """Whether what comes now is the head of a request, and not the rest of a body that was not read."""
        return self.cycle is None or not self.cycle.more_body

    def _watch(self) -> None:
        """Let the time run while the client is waited for."""
        waits_for_client = not self._active or self.flow.write_paused
        if not waits_for_client:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer()
        if waits_for_client or self.cycle.more_body:
            self._limits.waiting.setdefault(self)
        else:
            self._limits.waiting.pop(self, None)

    def _start_timer(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self._limits.timeout_s, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        unsent = self.transport.get_write_buffer_size()
        if 0 < unsent <= self._unsent - MIN_TAKEN_BYTES:
            self._start_timer()
        elif unsent or self.transport.is_closing():
            self.transport.abort()
        elif self._n_head:
            self._refuse(RequestTimeout(f"the head of the request took longer than {self._limits.timeout_s:g} s"))
            self._start_timer()
        else:
            self.transport.close()

    def _refuse(self, error: AppError) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and self._active:
            if self.cycle.response_started:
                self.transport.close()
                return
            self.cycle.disconnected = True  # the application's own answer would come after this one
            self.cycle.message_event.set()
        self.transport.write(_answer(error, self.server_state.default_headers))
        self.transport.close()


def send_at_once(connection: TransportSocket | None) -> None:
    """Switch off Nagle's algorithm, with which the end of an answer waits for the client's delayed acknowledgement.

    asyncio does so itself unless the listening socket was made without the name of the protocol, as uvicorn's is.
    """
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _answer(error: AppError, default_headers: list[tuple[bytes, bytes]]) -> bytes:
    request_id = uuid4().hex
    problem = Problem(
        type=f"urn:stock-forecast:{error.code}",
        title=error.title,
        status=error.status_code,
        detail=error.message,
        code=error.code,
        request_id=request_id,
    )
    body: bytes = problem.model_dump_json(exclude_none=True).encode()
    headers = [
        *default_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
        *([] if error.retry_after_s is None else [(b"retry-after", str(error.retry_after_s).encode())]),
    ]
    status = f"HTTP/1.1 {error.status_code} {HTTPStatus(error.status_code).phrase}\r\n".encode()
    return status + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body
