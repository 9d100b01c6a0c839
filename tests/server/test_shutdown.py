"""A server ends in time, whatever hangs."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from socket import create_server

import pytest

from tests.server.conftest import RunningServer, Start

pytestmark = pytest.mark.slow

SHUTDOWN_S = 6.0
ENDS_WITHIN_S = 15.0  # after SHUTDOWN_S; what keeps it here would keep it for longer
N_HUNG = 50  # more than there are threads for requests
LIST = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def server(start: Start) -> Iterator[RunningServer]:
    """Its store accepts connections and never answers."""
    with create_server(("127.0.0.1", 0), backlog=200) as store:
        yield start(
            forked=True,
            S3_BUCKET_NAME="bucket",
            S3_ENDPOINT_URL=f"http://127.0.0.1:{store.getsockname()[1]}",
            AWS_ACCESS_KEY_ID="any",
            AWS_SECRET_ACCESS_KEY="any",
            AWS_DEFAULT_REGION="us-east-1",
            SHUTDOWN_TIMEOUT_S=str(SHUTDOWN_S),
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_store_that_hangs_does_not_keep_the_server(server: RunningServer, number: signal.Signals) -> None:
    with ExitStack() as stack:
        for _ in range(N_HUNG):
            stack.enter_context(server.connect(LIST))
        time.sleep(0.5)

        server.process.send_signal(number)
        server.process.wait(ENDS_WITHIN_S)


def test_a_second_signal_ends_the_wait_for_requests(server: RunningServer) -> None:
    with server.connect(LIST):
        time.sleep(0.5)

        server.process.terminate()
        time.sleep(0.5)
        server.process.terminate()
        server.process.wait(ENDS_WITHIN_S)

    assert "Traceback" not in server.log
    assert "timeout graceful shutdown exceeded" not in server.log


def test_a_connection_that_sends_nothing_does_not_keep_the_server(start: Start) -> None:
    server = start()
    with server.connect(), server.connect(b"GET /up HT"):
        server.end(within_s=ENDS_WITHIN_S)
    assert "has not ended in time" not in server.log


BLOCKED = """
import time
from app import create_app
from server.run import serve

app = create_app()


async def block() -> None:
    time.sleep(60)


app.add_api_route("/blocked", block)
serve(app, app.state.runtime.settings)
"""


def test_a_blocked_event_loop_does_not_keep_the_server(start: Start) -> None:
    server = start([sys.executable, "-c", BLOCKED], forked=True)
    with server.connect(b"GET /blocked HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        time.sleep(0.5)

        assert server.end(within_s=ENDS_WITHIN_S) > 3
    assert server.process.returncode == 1
    assert "has not ended in time" in server.log
