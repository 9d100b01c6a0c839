"""Clients that send nothing, slowly, or take in no answer; each with a real server and real sockets."""

import json
import select
import sys
import time
from contextlib import ExitStack, suppress
from socket import SHUT_WR, SO_RCVBUF, SOL_SOCKET, socket

import pytest

from tests.processes import wait_until
from tests.server.conftest import RunningServer, Start

pytestmark = pytest.mark.slow

N_FILES = 128
N_SILENT = 300
GET_UP = b"GET /up HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /predict/live HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"


@pytest.fixture(scope="module")
def server(start: Start) -> RunningServer:
    return start(forked=True)


def received(connection: socket) -> bytes:
    """What the server sends until it closes."""
    parts = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def problem(answer: bytes) -> tuple[int, str, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document = json.loads(body)
    assert int(head.split()[1]) == document["status"]
    return document["status"], document["code"], head.lower()


def silent(server: RunningServer, stack: ExitStack, count: int) -> list[socket]:
    return [stack.enter_context(server.connect()) for _ in range(count)]


def settled(server: RunningServer) -> int:
    """The files that the server has open, once it has closed the connections of earlier tests."""
    n_files, since = server.n_files(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.1)
        if (now := server.n_files()) != n_files:
            n_files, since = now, time.monotonic()
    return n_files


def drip(connection: socket, data: bytes, seconds: float) -> float:
    """Send a byte every tenth of a second until the server closes, and return how long that took."""
    started = time.monotonic()
    for byte in data * 100:
        if time.monotonic() - started > seconds:
            break
        if select.select([connection], [], [], 0.1)[0]:
            return time.monotonic() - started
        connection.sendall(bytes([byte]))
    pytest.fail(f"still open after {seconds} s")


def test_more_silent_connections_than_files_leave_the_server_answering(start: Start) -> None:
    server = start(n_files=N_FILES, forked=True)
    with ExitStack() as stack:
        silent(server, stack, N_SILENT)

        started = time.monotonic()
        assert [server.status(timeout_s=3) for _ in range(5)] == [200] * 5
        assert time.monotonic() - started < 3

        assert server.n_files() < N_FILES
        assert "Traceback" not in server.log
        assert server.end(within_s=10) < 6


def test_silent_connections_while_the_server_warms_up_do_not_end_the_warm_up(start: Start) -> None:
    server = start(n_files=N_FILES, wait=False)
    with ExitStack() as stack:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(ConnectionRefusedError):
                stack.enter_context(server.connect())
                break
        silent(server, stack, N_SILENT)

        assert server.status(timeout_s=10) == 200
        wait_until(lambda: server.status("/health") == 200, 30, "the model is loaded")
        assert "Traceback" not in server.log
        assert "failed" not in server.log
        assert server.end(within_s=10) < 6


def test_a_silent_connection_is_closed(server: RunningServer) -> None:
    started = time.monotonic()
    with server.connect() as connection:
        assert received(connection) == b""

    assert 1.5 < time.monotonic() - started < 15


def test_a_head_that_drips_is_answered_408_and_closed(server: RunningServer) -> None:
    with server.connect(b"GET /up HTTP/1.1\r\nHost: localhost\r\n") as connection:
        assert 1.5 < drip(connection, b"X-Slow: 1\r\n", 6) < 5
        status, code, head = problem(received(connection))

    assert (status, code) == (408, "request_timeout")
    assert b"connection: close" in head


def test_a_kept_alive_connection_that_sends_nothing_more_is_closed(server: RunningServer) -> None:
    with server.connect(GET_UP) as connection:
        answer = received(connection)

    assert answer.startswith(b"HTTP/1.1 200")


def test_a_second_head_that_drips_is_answered_408_and_closed(server: RunningServer) -> None:
    with server.connect(GET_UP) as connection:
        answer = connection.recv(65536)
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        assert 1.5 < drip(connection, b"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 6) < 5
        assert problem(received(connection))[:2] == (408, "request_timeout")


def test_a_body_that_drips_is_answered_408_and_closed(server: RunningServer) -> None:
    with server.connect(POST) as connection:
        assert 1.5 < drip(connection, b"{", 6) < 5
        status, code, head = problem(received(connection))

    assert (status, code) == (408, "request_timeout")
    assert b"connection: close" in head


@pytest.mark.parametrize("path", [b"/none", b"/up"])
def test_the_rest_of_a_body_that_no_route_reads_is_not_waited_for_without_end(
    server: RunningServer, path: bytes
) -> None:
    head = b"POST " + path + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
    with server.connect(head) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 40")
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 15:
                connection.sendall(b" ")
                if select.select([connection], [], [], 0.1)[0] and connection.recv(100) == b"":
                    break

    assert time.monotonic() - started < 15


def test_half_closed_sockets_leave_no_file_open(server: RunningServer) -> None:
    before = settled(server)
    with ExitStack() as stack:
        for sent in (b"", b"GET /up HT", POST, GET_UP) * 5:
            stack.enter_context(server.connect(sent)).shutdown(SHUT_WR)

        wait_until(lambda: server.n_files() <= before, 6, "all are closed")


def test_a_client_that_never_reads_its_answer_is_cut_off(server: RunningServer) -> None:
    before = settled(server)
    ask = b"GET /static/vendor/lightweight-charts.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(socket())
            connection.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            with suppress(BlockingIOError):
                connection.setblocking(False)
                for _ in range(200):  # more than the buffers of both sides take
                    connection.send(ask)
        time.sleep(0.5)
        assert server.n_files() > before

        wait_until(lambda: server.n_files() <= before, 15, "all are closed")
    assert b"http_active_requests 1.0" in metrics(server) or b"http_active_requests 1\n" in metrics(server)


def metrics(server: RunningServer) -> bytes:
    with server.connect(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as connection:
        return received(connection)


def test_what_is_not_http_is_a_problem_too(server: RunningServer) -> None:
    with server.connect(b"\x16\x03\x01nonsense\r\n\r\n") as connection:
        assert problem(received(connection))[:2] == (400, "bad_request")


def test_a_head_that_is_too_large_is_refused(server: RunningServer) -> None:
    with server.connect(b"GET /up HTTP/1.1\r\nHost: localhost\r\n") as connection:
        with suppress(ConnectionError):
            for number in range(200):
                connection.sendall(b"X-%d: %s\r\n" % (number, b"a" * 1000))
                time.sleep(0.001)
        assert received(connection)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
    assert server.status() == 200


def test_an_upgrade_to_a_web_socket_is_answered_as_any_request(server: RunningServer) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: a\r\n\r\n"
    with server.connect(GET_UP[:-2] + upgrade) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert "WebSocket" not in server.log


def test_more_requests_than_allowed_are_503_and_up_still_answers(start: Start) -> None:
    server = start(forked=True, MAX_ACTIVE_REQUESTS="1", BODY_TIMEOUT_S="20", HEADER_TIMEOUT_S="20")
    body = b'{"ticker": "^GSPC", "start": "2001-01-01", "horizon": 30}'
    backtest = POST.replace(b"/predict/live", b"/models/default/backtest").replace(b": 50", b": %d" % len(body))
    with server.connect(POST), server.connect(backtest + body):
        time.sleep(0.5)
        with server.connect(b"GET /models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") as connection:
            status, code, answer_head = problem(received(connection))
        assert server.status() == 200

    assert (status, code) == (503, "server_busy")
    assert b"retry-after: " in answer_head


def test_the_limits_hold_under_a_bare_uvicorn_with_the_protocol(start: Start) -> None:
    command = [sys.executable, "-m", "uvicorn", "--factory", "app:create_app", "--port", "{port}"]
    server = start([*command, "--http", "server.protocol:LimitedProtocol", "--backlog", "4"], n_files=N_FILES)
    with ExitStack() as stack:
        silent(server, stack, N_FILES + 10)  # with so short a queue, they wait for each other

        assert server.status(timeout_s=3) == 200
        assert "Traceback" not in server.log
        assert server.end(within_s=10) < 6
