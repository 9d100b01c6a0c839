"""Several processes of one server, on one port, and the process that looks after them.

The parent keeps the port and serves nothing. It starts a process for each that has ended, and passes a signal to end
on to all of them. They end by themselves if the parent is gone.
"""

import logging
import os
import selectors
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from config import Settings, sharing_metrics
from server.port import kept_port, one_of_port
from server.run import Server, options
from services.jobs.forked import end_after

POLL_S = 0.05
PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0  # before another start after one that failed
READY = b"r"
SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


def serve_in_processes(make_app: Callable[[Settings], FastAPI], settings: Settings) -> None:
    """Serve in ``settings.n_processes`` processes until a signal; SystemExit if they ended otherwise.

    Args:
        make_app: builds the application in each process, ready to answer.
        settings: of the server.
    """
    with tempfile.TemporaryDirectory(prefix="stock-forecast-", ignore_cleanup_errors=True) as folder:
        shared = sharing_metrics(settings, Path(folder))
        with kept_port(settings.host, settings.port) as kept:

            def serve(ready: Callable[[], None]) -> None:
                config = uvicorn.Config(make_app(shared), **options(shared))
                with one_of_port(kept) as listening:
                    _OneOfSeveral(config, shared.shutdown_timeout_s, ready).run([listening])

            code = Processes(settings.n_processes, settings.shutdown_timeout_s, serve).run()
    if code:
        raise SystemExit(code)


class _OneOfSeveral(Server):
    """Reports to its parent when it accepts connections. A Ctrl+C reaches all processes, and is left to the parent."""

    def __init__(self, config: uvicorn.Config, shutdown_timeout_s: float, ready: Callable[[], None]) -> None:
        super().__init__(config, shutdown_timeout_s)
        self._ready = ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGINT:
            super().handle_exit(sig, frame)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self._ready()


@dataclass(eq=False)
class _Process:
    """A process that was started; ``line`` is readable once it is ready, and closes with the parent."""

    id: int
    line: socket.socket
    is_ready: bool = field(default=False)

    def look(self) -> bool:
        """Whether it is ready."""
        if not self.is_ready:
            with suppress(BlockingIOError):
                self.is_ready = self.line.recv(1) == READY
        return self.is_ready


class Processes:
    """Keeps a number of processes running until a signal.

    Args:
        number: of the processes.
        timeout_s: after a signal, until those that are left are killed.
        work: what each does, in a process of its own; it calls its argument once it is ready.
    """

    def __init__(self, number: int, timeout_s: float, work: Callable[[Callable[[], None]], None]) -> None:
        self._number = number
        self._timeout_s = timeout_s
        self._work = work
        self._running: dict[int, _Process] = {}
        self._any_ready = False
        self._pause_s, self._not_before = PAUSE_S, 0.0
        self._signals = 0
        self._code = 0

    def run(self) -> int:
        """Run until a signal has ended all; the exit code of the server."""
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        try:
            while not self._signals and not self._code:
                self._start_missing()
                time.sleep(POLL_S)
                self._reap(self._replace)
            self._end()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self._code

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _start_missing(self) -> None:
        while len(self._running) < self._number and not self._signals and time.monotonic() >= self._not_before:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        # a signal that came between the two would be handled by the parent's handler, in the child
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        process_id = os.fork()
        if process_id == 0:
            end_after(partial(self._be_child, ours, theirs), "a process of the server has failed")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        ours.setblocking(False)
        self._running[process_id] = _Process(process_id, ours)

    def _be_child(self, ours: socket.socket, theirs: socket.socket) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        ours.close()
        for other in self._running.values():
            other.line.close()
        threading.Thread(target=_end_with_parent, args=(theirs,), name="parent", daemon=True).start()
        self._work(lambda: theirs.sendall(READY))

    def _reap(self, on_end: Callable[[_Process, int], None]) -> None:
        for process in [*self._running.values()]:
            self._any_ready |= process.look()
            found, status = os.waitpid(process.id, os.WNOHANG)
            if found:
                del self._running[process.id]
                process.line.close()
                on_end(process, os.waitstatus_to_exitcode(status))

    def _replace(self, process: _Process, code: int) -> None:
        if not self._any_ready:
            log.error("process %d of the server ended with exit code %d before it was ready", process.id, code)
            self._code = max(code, 1)  # as the others would
        elif process.is_ready:
            log.error("process %d of the server ended with exit code %d; another one starts", process.id, code)
            self._pause_s = PAUSE_S
        else:
            log.error("process %d ended with exit code %d; next try in %g s", process.id, code, self._pause_s)
            self._not_before = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _end(self) -> None:
        """Pass each signal on, and kill what has not ended in time."""
        deadline, passed_on = time.monotonic() + self._timeout_s, 0
        while self._running:
            if passed_on < max(1, self._signals):
                passed_on += 1
                self._send(signal.SIGTERM)
            if time.monotonic() > deadline:
                log.critical("processes that have not ended in time are killed: %s", ", ".join(map(str, self._running)))
                self._send(signal.SIGKILL)
                deadline = float("inf")
            time.sleep(POLL_S)
            self._reap(self._ended)

    def _send(self, number: signal.Signals) -> None:
        for process_id in self._running:
            os.kill(process_id, number)  # not reaped yet, so the id is still its own

    def _ended(self, _process: _Process, code: int) -> None:
        if code not in (0, -signal.SIGTERM):
            self._code = max(self._code, code, 1)


def _end_with_parent(line: socket.socket) -> None:
    """Send this process a signal to end once the parent has gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        selector.select()
    os.kill(os.getpid(), signal.SIGTERM)
