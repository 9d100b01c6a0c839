"""Starts workers by forking a process that has imported torch and Lightning once: the import takes seconds.

``ForkServer`` is the side of the owner of jobs, and ``serve_forks`` runs in the process that is forked. They are
connected by a pair of sockets, on which each request is one byte with open files: a socket of that worker's own, and
the files that it inherits. On its own socket the worker reads its job and the settings, and later perhaps an order to
end. A small process between the two says that the worker has begun, waits for it, and sends its exit code. So a worker
lives on if the process with the jobs is killed, its end is known however it ends, and a request that was lost with the
forked process is made again.

``multiprocessing`` has a fork server too, but its children import the main module again, and its parent waits for them
at its end.
"""

import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NoReturn, Self

from services.jobs.forked import end_after
from services.jobs.workers import WorkerProcess

FORKS_ARE_SAFE = sys.platform == "linux"  # macOS's own libraries may use threads, and crash in a fork
KEPT_S = 600.0  # without a job: what was imported takes memory
MAX_FILES = 8
REQUEST, END = b"r", b"e"
SIZES = struct.Struct("!II")  # of the job's id and of the settings
BEGUN = b"begun\n"
TRIES = 3  # to begin

log = logging.getLogger(__name__)


class ForkServer:
    """Starts the process that is forked with the first job, and ends it after ``kept_s`` without one.

    Args:
        command: the program that calls ``serve_forks`` with its standard input, a socket.
        settings: what each worker gets besides its job's id.
        kept_s: seconds.
    """

    def __init__(self, command: Sequence[str], settings: bytes, kept_s: float = KEPT_S) -> None:
        self._command = [*command]
        self._settings = settings
        self._kept_s = kept_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._end: threading.Timer | None = None
        self._is_closed = False

    def of(self, job_id: str) -> Self:  # noqa: ARG002 - of the protocol
        return self

    def start(self, job_id: str, files: Sequence[int]) -> WorkerProcess:
        return _Fork(self._begin(job_id, files), partial(self._again, job_id, files))

    def _begin(self, job_id: str, files: Sequence[int]) -> socket.socket:
        """Request a worker; the socket that leads to it."""
        ours, theirs = socket.socketpair()
        job = job_id.encode()
        try:
            with theirs, self._lock:
                self._send([theirs.fileno(), *files])
            with suppress(ConnectionError):  # the process has died since, and ``wait`` asks again
                ours.sendall(SIZES.pack(len(job), len(self._settings)) + job + self._settings)
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        self._is_closed = True
        self._rest()

    def _again(self, job_id: str, files: Sequence[int]) -> socket.socket | None:
        if self._is_closed:
            return None
        log.warning("the process that is forked for workers has ended; another one starts")
        return self._begin(job_id, files)

    def _rest(self) -> None:
        """Keep no process until the next job."""
        with self._lock:
            if self._end is not None:
                self._end.cancel()
            self._stop()

    def _send(self, files: Sequence[int]) -> None:
        try:
            socket.send_fds(self._running(), [REQUEST], files)
        except ConnectionError:  # it has died, and may not be reaped yet
            self._stop()
            socket.send_fds(self._running(), [REQUEST], files)

    def _running(self) -> socket.socket:
        """The line to a running process, which will be ended later."""
        if self._end is not None:
            self._end.cancel()
        if self._line is None or self._process is None or self._process.poll() is not None:
            self._stop()
            self._line, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(self._command, stdin=theirs.fileno())  # noqa: S603 - our own
        self._end = threading.Timer(self._kept_s, self._rest)
        self._end.daemon = True
        self._end.start()
        return self._line

    def _stop(self) -> None:
        """End the process; its workers are processes of their own, and go on."""
        if self._line is not None:
            self._line.close()
            self._line = None
        if self._process is not None:
            self._process.kill()  # it may still import
            self._process.wait()
            self._process = None


class _Fork:
    """A worker, seen through its socket."""

    def __init__(self, line: socket.socket, again: Callable[[], socket.socket | None]) -> None:
        self._line = line
        self._again = again
        self._is_unwanted = False

    def wait(self) -> int | None:
        for _ in range(TRIES - 1):
            begun, code = _answer(self._line)
            line = None if begun or self._is_unwanted else self._again()
            if line is None:
                return code
            self._line = line
            if self._is_unwanted:  # since it was asked
                self.terminate()
        return _answer(self._line)[1]

    def terminate(self) -> None:
        self._is_unwanted = True
        try:
            self._line.sendall(END)
        except OSError:
            log.debug("the worker has ended", exc_info=True)


def _answer(line: socket.socket) -> tuple[bool, int | None]:
    """Whether the worker of this line has begun, and its exit code, once it has ended."""
    begun, code = b"", b""
    with line, line.makefile("rb") as answer, suppress(ConnectionResetError):  # it was not read to its end
        begun = answer.readline()
        code = answer.readline()
    return bool(begun), int(code) if code else None


def serve_forks(work: Callable[[str, bytes], None]) -> None:
    """Fork a worker for each request on standard input, until that is closed.

    Args:
        work: what a worker does, with its job's id and the settings; signals reach it as they reach a new program.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl+C reaches all processes: workers and their owner decide
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing waits for those that wait for workers
    with socket.socket(fileno=os.dup(0)) as line:
        while True:
            message, files, _, _ = socket.recv_fds(line, 1, MAX_FILES)
            if not message:
                return
            if os.fork() == 0:
                line.close()
                _fork_worker(files, work)
            for file in files:
                os.close(file)


def _fork_worker(files: Sequence[int], work: Callable[[str, bytes], None]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    line = socket.socket(fileno=files[0])
    worker = os.fork()
    if worker == 0:
        end_after(partial(_be_worker, line, work), "the worker has failed")
    for inherited in files[1:]:
        os.close(inherited)  # a place is the worker's alone
    _say(line, BEGUN)
    _, status = os.waitpid(worker, 0)
    _say(line, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _say(line: socket.socket, words: bytes) -> None:
    try:
        line.sendall(words)
    except OSError:
        log.debug("the owner of the worker is gone", exc_info=True)


def _be_worker(line: socket.socket, work: Callable[[str, bytes], None]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    n_job, n_settings = SIZES.unpack(_received(line, SIZES.size))
    job_id, settings = _received(line, n_job), _received(line, n_settings)
    threading.Thread(target=_end_on_order, args=(line,), name="orders", daemon=True).start()
    work(job_id.decode(), settings)


def _received(line: socket.socket, size: int) -> bytes:
    received = line.recv(size, socket.MSG_WAITALL) if size else b""
    if len(received) < size:
        raise SystemExit(0)  # the owner of the job is gone; it waits in the store
    return received


def _end_on_order(line: socket.socket) -> None:
    if line.recv(1) == END:
        os.kill(os.getpid(), signal.SIGTERM)
