"""An event loop that has more to do than it can do in time refuses what it comes to too late."""

import sys
import time
from contextlib import ExitStack
from socket import create_connection, create_server
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn import Config

from server.limits import STATE, Connections, n_queued
from server.run import Server
from tests.server.conftest import RunningServer, Start
from tests.server.test_connections import problem, received

pytestmark = pytest.mark.slow

SLOW = """
import time
from socket import create_connection, create_server
from app import create_app
from server.run import serve

app = create_app()


async def slow() -> None:
    time.sleep(0.8)


app.add_api_route("/slow", slow)
serve(app, app.state.runtime.settings)
"""


@pytest.fixture(scope="module")
def server(start: Start) -> RunningServer:
    return start([sys.executable, "-c", SLOW], forked=True)


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "n_late", "statuses"), [("/health", 12, {200, 503}), ("/health", 3, {200}), ("/up", 12, {200})]
)
def test_of_many_requests_that_the_event_loop_comes_to_late_some_are_refused(
    server: RunningServer, path: str, n_late: int, statuses: set[int]
) -> None:
    with ExitStack() as stack:
        before, *late = (stack.enter_context(server.connect()) for _ in range(1 + n_late))
        first = stack.enter_context(server.connect(request("/slow")))
        time.sleep(0.3)  # the loop is at work, and finds the next ones together
        before.sendall(request("/slow"))
        time.sleep(0.1)
        for one in late:
            one.sendall(request(path))

        answers = [received(one) for one in late]
        received(first)
        received(before)

    assert {int(answer.split()[1]) for answer in answers} == statuses
    for refusal in (answer for answer in answers if b" 503 " in answer.split(b"\r\n")[0]):
        assert problem(refusal)[1] == "server_busy"
        assert b"\r\nretry-after: 1\r\n" in refusal.lower()


def test_time_in_which_the_server_did_not_run_is_no_sign_of_a_long_queue() -> None:
    """As when a browser loads the files of the page, each on a connection of its own, while other programs work."""
    limits = Connections()
    server: Any = Server(Config("app:create_app"), shutdown_timeout_s=10)
    server.lifespan = SimpleNamespace(state={STATE: limits})
    with create_server(("127.0.0.1", 0)) as listening, ExitStack() as stack:
        server.servers = [SimpleNamespace(sockets=[listening])]
        for _ in range(12):
            stack.enter_context(create_connection(listening.getsockname()))
        time.sleep(0.5)  # as where the machine gives this process no time

        server._measure_queue()

    assert limits.n_queued == 12
    assert 0 < limits.queue_s < 1, "twelve requests in half a second each would take six"


def test_the_kernels_queue_is_known() -> None:
    with create_server(("127.0.0.1", 0)) as listening:
        assert n_queued(listening) == 0
        with create_connection(listening.getsockname()), create_connection(listening.getsockname()):
            assert n_queued(listening) == (2 if sys.platform.startswith("linux") else 0)
