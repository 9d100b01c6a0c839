"""What tests that start servers share: ports, servers in a thread, and commands that do not outlive us."""

import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, SOCK_STREAM, socket

# Below those that a system gives to outgoing connections: a test in another process could take such a port between our
# look and our server's start.
SERVER_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A TCP port of the loopback interface that no program uses at the moment, and that none gets by chance."""
    while True:
        port = secrets.choice(SERVER_PORTS)  # not from `random`: Hypothesis gives each test process the same seed
        with socket(AF_INET, SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a TCP port of the loopback interface."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dies_with_us() -> list[str]:
    """The start of a command that ends when we do, killed or not."""
    # util-linux, so on every Debian; elsewhere a killed test run may leave its servers behind
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []


def wait_until(holds: Callable[[], bool], within_s: float, what: str) -> None:
    """Wait until the condition holds, and fail where it does not in time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        time.sleep(0.05)


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


class QuietHandler(BaseHTTPRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The address of a server that a thread of this process runs during the block, by default on a free port."""
    with ThreadingHTTPServer((host, port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
