"""A server in a process of its own, as users start it, with short time limits and few files."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection, socket

import pytest

from tests.forked_servers import LIMITED, ForkedProgram, ForkedServers
from tests.processes import dies_with_us, free_port

ROOT = Path(__file__).parents[2]
START_S = 60.0


@dataclass
class RunningServer:
    process: "subprocess.Popen[bytes] | ForkedProgram"
    port: int
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def connect(self, sent: bytes = b"", *, timeout_s: float = 20.0) -> socket:
        connection = create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        connection.sendall(sent)
        return connection

    def status(self, path: str = "/up", timeout_s: float = 10.0) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def n_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            with suppress(OSError):
                if self.status() == 200:
                    return
            time.sleep(0.05)

    def end(self, within_s: float) -> float:
        """Send SIGTERM; the seconds until the process has ended."""
        started = time.monotonic()
        self.process.terminate()
        self.process.wait(within_s)
        return time.monotonic() - started


Start = Callable[..., RunningServer]

SETTINGS = {"PRICE_SOURCE": "sample", "HEADER_TIMEOUT_S": "2", "BODY_TIMEOUT_S": "2", "SHUTDOWN_TIMEOUT_S": "6"}


@pytest.fixture(scope="module")
def start(servers: ForkedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts ``python app.py`` or another command, and ends it with the module; ``forked`` saves the imports."""
    with ExitStack() as ends:

        def started(
            command: list[str] | None = None,
            *,
            n_files: int = 1024,
            wait: bool = True,
            forked: bool = False,
            **settings: str,
        ) -> RunningServer:
            folder = tmp_path_factory.mktemp("server")
            port = free_port()
            own = {"PORT": str(port), "DATA_DIR": str(folder / "var"), **SETTINGS, **settings}
            program = command or [sys.executable, "app.py"]
            log = ends.enter_context((folder / "log").open("wb"))
            process: subprocess.Popen[bytes] | ForkedProgram
            if forked:
                process = servers.start(own, log, n_files=n_files, source=command[-1] if command else None)
            else:
                limited = [*dies_with_us(), *LIMITED, str(n_files)]
                process = subprocess.Popen(
                    [*limited, *(part.replace("{port}", str(port)) for part in program)],
                    cwd=ROOT,
                    env=os.environ | own,
                    stdout=log,
                    stderr=log,
                )
            ends.callback(process.wait)
            ends.callback(process.kill)
            server = RunningServer(process, port, folder / "log")
            if wait:
                server.wait_until_up()
            return server

        yield started
