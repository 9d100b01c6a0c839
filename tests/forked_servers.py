"""Servers in processes of their own, forked from one that has imported the application: that takes a second each time.

``python -m tests.forked_servers`` is the process that is forked, once for each request on its standard input, a socket.
Tests of how a server starts start ``python app.py``.
"""

import ctypes
import json
import os
import resource
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

from benchmarks.server import wait_until_up
from services.jobs.fork_server import FORKS_ARE_SAFE
from tests.processes import dies_with_us, free_port

ROOT = Path(__file__).parent.parent
COMMAND = (*dies_with_us(), sys.executable, "-m", "tests.forked_servers")
# what a server imports until it is warm, but for what reads the environment meanwhile, or starts a thread
IMPORTS = (
    "app",
    "server.run",
    "uvicorn.protocols.http.httptools_impl",
    "models.runtime",
    "pandas",
    "exchange_calendars",
)
REQUEST = b"r"
LIMITED = ["sh", "-c", 'ulimit -n "$0" && exec "$@"']
OWN = {"OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}  # no threads, to be forked safely
N_FILES = 2  # a socket to the process, and where it prints
NUMBER = struct.Struct("!q")
PR_SET_PDEATHSIG = 1


class ForkedServer:
    """A server process; what a ``Popen`` of it would be to a test."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.pid = self._number()
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = self._number()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(COMMAND, timeout or 0) from None
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _number(self) -> int:
        received = self._line.recv(NUMBER.size, socket.MSG_WAITALL)
        assert len(received) == NUMBER.size, "the process above the server has ended"
        number: int = NUMBER.unpack(received)[0]
        return number


class ForkedServers:
    """Starts servers; the process that is forked starts with the first one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None

    def start(
        self,
        settings: Mapping[str, str],
        log: IO[bytes],
        *,
        n_files: int | None = None,
        source: str | None = None,
        folder: Path = ROOT,
    ) -> "ForkedServer | subprocess.Popen[bytes]":
        """A server with these settings in its environment, which runs in the folder and may open ``n_files`` files.

        ``source`` is a program in place of ``app.py``. Where forks are not safe, each server is a program.
        """
        environment = {**os.environ, **settings}
        if not FORKS_ARE_SAFE:
            limit = [] if n_files is None else [*LIMITED, str(n_files)]
            program = ["app.py"] if source is None else ["-c", source]
            environment["PYTHONPATH"] = str(ROOT)
            command = [*limit, sys.executable, *program]
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._running(), [REQUEST], [theirs.fileno(), log.fileno()])
        more = {"n_files": n_files, "source": source, "folder": str(folder)}
        wanted = json.dumps({"environment": environment, **more}).encode()
        ours.sendall(NUMBER.pack(len(wanted)) + wanted)
        return ForkedServer(ours)

    @contextmanager
    def running(self, settings: Mapping[str, str], log: Path = Path(os.devnull)) -> Iterator[str]:
        """The base URL of a server, as ``benchmarks.server.server_process``."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        with log.open("wb") as file:
            process = self.start({**settings, "HOST": "127.0.0.1", "PORT": str(port)}, file)
        try:
            wait_until_up(url, process)
            yield url
        finally:
            process.terminate()
            process.wait()

    def close(self) -> None:
        if self._line is not None and self._process is not None:
            self._line.close()
            self._process.wait()

    def _running(self) -> socket.socket:
        if self._line is None:
            self._line, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(COMMAND, cwd=ROOT, env={**os.environ, **OWN}, stdin=theirs.fileno())
        return self._line


def main() -> None:
    for name in IMPORTS:
        import_module(name)
    assert threading.active_count() == len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as line:
        while True:
            message, files, _, _ = socket.recv_fds(line, len(REQUEST), N_FILES)
            if not message:
                return
            if os.fork() == 0:
                break
            for file in files:
                os.close(file)
    _start(*files)


def _start(line: int, log: int) -> None:
    """Be the process above a server, which says when and how it ends; in the process below, be the server."""
    _die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=line) as owner:
        (size,) = NUMBER.unpack(owner.recv(NUMBER.size, socket.MSG_WAITALL))
        wanted = json.loads(owner.recv(size, socket.MSG_WAITALL))
        server = os.fork()
        if server != 0:
            _report(owner, server)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    if wanted["n_files"] is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted["n_files"], wanted["n_files"]))
    os.environ.clear()
    os.environ.update(wanted["environment"])
    tempfile.tempdir = None  # read from the environment once more
    os.chdir(wanted["folder"])
    sys.argv = ["app.py"]
    if wanted["source"] is None:
        runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
    else:
        exec(wanted["source"], {"__name__": "__main__"})  # noqa: S102 - a test's own


def _report(owner: socket.socket, server: int) -> NoReturn:
    with suppress(OSError):  # the test has closed its end
        owner.sendall(NUMBER.pack(server))
        owner.sendall(NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])))
    os._exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
