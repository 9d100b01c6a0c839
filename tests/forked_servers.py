"""Servers in processes of their own, forked from one that has imported the application: that takes a second each time.

``python -m tests.forked_servers`` is the process that is forked, once for each request on its standard input, a socket.
The workers of these servers are forked as well: those that train networks from a fork of this process that has also
imported torch. Tests of how a server or a worker starts start ``python app.py`` or ``python worker.py``.
"""

import ctypes
import gc
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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import IO, NoReturn
from unittest.mock import patch

from benchmarks.server import wait_until_up
from bootstrap import FORKED, WORKER, bundled_model
from clock import utc_now
from config import Settings, prepare_environment
from services.jobs.fork_server import FORKS_ARE_SAFE, MAX_FILES
from services.prices.sample import SampleSource
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore
from services.warm_up import warm_up
from tests.processes import dies_with_us, free_port

ROOT = Path(__file__).parent.parent
COMMAND = (*dies_with_us(), sys.executable, "-m", "tests.forked_servers")
# what takes a tenth of a second or more, but for what reads the environment meanwhile, or starts a thread
IMPORTS = (
    "app",
    "server.run",
    "uvicorn.protocols.http.httptools_impl",
    "worker",
    "services.training.train",
    "arch",
    "sklearn.ensemble",
    "statsmodels.tsa.stattools",
)
NETWORK_IMPORTS = ("models.lstm.lightning_module", "onnx", "torch.onnx")
REQUEST, NETWORK_REQUEST = b"r", b"n"
LIMITED = ["sh", "-c", 'ulimit -n "$0" && exec "$@"']
NUMBER = struct.Struct("!q")
N_FILES = 5 + MAX_FILES  # two sockets, what it reads and prints to, and what it inherits
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """What a forked process runs: the file that is the first of its arguments, or the source."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str = str(ROOT)
    n_files: int | None = None
    source: str | None = None


class ForkedProgram:
    """A program of ours in a process of its own; what a ``Popen`` of it would be to a test, or to a server."""

    def __init__(self, line: socket.socket, stdin: int | None = None) -> None:
        self._stdin = stdin
        self._pid, self._end = Future[int](), Future[int]()
        threading.Thread(target=self._read, args=(line,), daemon=True).start()

    @property
    def pid(self) -> int:
        return self._pid.result()

    @property
    def returncode(self) -> int | None:
        return self._end.result() if self._end.done() else None

    def communicate(self, data: bytes) -> None:
        assert self._stdin is not None
        with suppress(BrokenPipeError), os.fdopen(self._stdin, "wb") as stdin:
            stdin.write(data)
        self.wait()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        try:
            return self._end.result(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(COMMAND, timeout or 0) from None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, line: socket.socket) -> None:
        """Receive the process id, and the exit code when it has ended."""
        with line:
            for number in (self._pid, self._end):
                received = line.recv(NUMBER.size, socket.MSG_WAITALL)
                if len(received) == NUMBER.size:
                    number.set_result(NUMBER.unpack(received)[0])
                else:
                    number.set_exception(RuntimeError("the process above the program has ended"))


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
    ) -> "ForkedProgram | subprocess.Popen[bytes]":
        """A server with these settings in its environment, which runs in the folder and may open ``n_files`` files.

        ``source`` is a program in place of ``app.py``. Where forks are not safe, each server is a program.
        """
        environment = {**os.environ, **settings}
        if not FORKS_ARE_SAFE:
            limit = [] if n_files is None else [*LIMITED, str(n_files)]
            what = [str(ROOT / "app.py")] if source is None else ["-c", source]
            environment["PYTHONPATH"] = str(ROOT)
            command = [*limit, sys.executable, *what]
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        program = Program(["app.py"], environment, str(folder), n_files, source)
        with Path(os.devnull).open("rb") as nothing:
            return ForkedProgram(_request(self._running(), program, [nothing.fileno(), log.fileno(), log.fileno()]))

    def start_trainer(
        self, arguments: Sequence[str], stdin: IO[bytes], stdout: IO[bytes]
    ) -> "ForkedProgram | subprocess.Popen[bytes]":
        """A program that trains networks; the first of its arguments is its file."""
        if not FORKS_ARE_SAFE:
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdin=stdin, stdout=stdout)
        program, files = Program(arguments, {**os.environ}), [stdin.fileno(), stdout.fileno(), 2]
        return ForkedProgram(_request(self._running(), program, files, NETWORK_REQUEST))

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

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Meanwhile, the workers of this process are forked like those of the servers."""
        with _forked_workers(self._running()) if FORKS_ARE_SAFE else nullcontext():
            yield

    def close(self) -> None:
        if self._line is not None and self._process is not None:
            self._line.shutdown(socket.SHUT_RDWR)  # a worker may have it too
            self._line.close()
            self._process.wait()

    def _running(self) -> socket.socket:
        if self._line is None:
            self._line, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(COMMAND, cwd=ROOT, stdin=theirs.fileno())
        return self._line


def main() -> None:
    prepare_environment()
    gc.disable()
    for name in IMPORTS:
        import_module(name)
    gc.enable()
    SampleSource().history("^GSPC", utc_now())
    warm_up(ModelRegistry(LocalArtifactStore(ROOT), bundled_model(Settings(_env_file=None))), utc_now())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(0)) as line:
        _serve(line)


def _serve(line: socket.socket) -> None:
    """Start a program in a fork for each request."""
    assert threading.active_count() == len(os.listdir("/proc/self/task")) == 1, "forks would lack a thread"  # noqa: PTH208
    with_torch: socket.socket | None = None
    while True:
        message, files, _, _ = socket.recv_fds(line, len(REQUEST), N_FILES)
        if not message:
            return
        if message == NETWORK_REQUEST:
            with_torch = with_torch or _fork_with_torch(files)
            socket.send_fds(with_torch, [REQUEST], files)
        elif os.fork() == 0:
            line.close()
            if with_torch is not None:
                with_torch.close()
            _start(*files)
        for file in files:
            os.close(file)


def _fork_with_torch(files: Sequence[int]) -> socket.socket:
    """The line to a fork that imports torch, and then starts programs too; the files are not for it."""
    ours, theirs = socket.socketpair()
    if os.fork() != 0:
        theirs.close()
        return ours
    _die_with_parent()
    ours.close()
    for file in files:
        os.close(file)
    gc.disable()
    for name in NETWORK_IMPORTS:
        import_module(name)
    gc.enable()
    gc.freeze()
    _serve(theirs)
    sys.exit()


def _start(owner: int, line: int, stdin: int, stdout: int, stderr: int, *inherited: int) -> NoReturn:
    """Be the process above a program, which says when and how it ends; in the process below, be the program."""
    _die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=owner) as owned:
        (size,) = NUMBER.unpack(owned.recv(NUMBER.size, socket.MSG_WAITALL))
        program = Program(**json.loads(owned.recv(size, socket.MSG_WAITALL)))
        process = os.fork()
        if process != 0:
            for file in (line, stdin, stdout, stderr, *inherited):
                os.close(file)
            _report(owned, process)
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file, number)
        os.close(file)
    if program.n_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (program.n_files, program.n_files))
    os.environ.clear()
    os.environ.update(program.environment)
    tempfile.tempdir = None  # read from the environment once more
    os.chdir(program.folder)
    sys.argv = [*program.arguments]
    with socket.socket(fileno=line) as server, _forked_workers(server):
        if program.source is None:
            runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
        else:
            exec(program.source, {"__name__": "__main__"})  # noqa: S102 - a test's own
    sys.exit()


@contextmanager
def _forked_workers(line: socket.socket) -> Iterator[None]:
    """Meanwhile, the process at the end of the line is forked for each worker of this one."""
    forking = SimpleNamespace(PIPE=subprocess.PIPE, Popen=partial(_start_worker, line))
    with patch("services.jobs.fork_server.subprocess", forking), patch("services.jobs.workers.subprocess", forking):
        yield


def _start_worker(
    line: socket.socket, command: Sequence[str], *, stdin: int, pass_fds: Sequence[int] = ()
) -> ForkedProgram:
    """What ``Popen`` does where workers are started."""
    assert (*command[: len(WORKER)],) == WORKER
    arguments = command[len(WORKER) - 1 :]
    kind = NETWORK_REQUEST if arguments[1:] == [FORKED, "network"] else REQUEST
    given, ours = os.pipe() if stdin == subprocess.PIPE else (os.dup(stdin), None)
    program = Program(arguments, {**os.environ}, str(Path.cwd()))
    forked = _request(line, program, [given, 1, 2, *pass_fds], kind)
    os.close(given)
    return ForkedProgram(forked, ours)


def _request(line: socket.socket, program: Program, files: Sequence[int], kind: bytes = REQUEST) -> socket.socket:
    """Request the program with these files; the socket that leads to the process above it."""
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(line, [kind], [theirs.fileno(), line.fileno(), *files])
    described = json.dumps(asdict(program)).encode()
    ours.sendall(NUMBER.pack(len(described)) + described)
    return ours


def _report(owner: socket.socket, process: int) -> NoReturn:
    with suppress(OSError):  # the test has closed its end
        owner.sendall(NUMBER.pack(process))
        owner.sendall(NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])))
    os._exit(0)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
