"""Writes to the store that no answer waits for: bounded, from a thread of their own."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from services.storage.pause import Pause

MAX_WAITING = 1000
WRITERS = 8  # at once in a flush: enough to hide the latency of S3
FLUSH_S = 10.0  # that a flush takes at most, so that a server ends well before a container runtime kills it

log = logging.getLogger(__name__)

Write = Callable[[], bool]
"""Writes one document and logs its own failure; False after a failure of the store."""


class WriteBehind:
    """A queue of writes and the thread that does them; after a failure of the store, ``pause`` refuses more."""

    def __init__(self) -> None:
        self._waiting: deque[Write] = deque()
        self._in_hand = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.pause = Pause()

    def put(self, write: Write) -> bool:
        """Queue a write; False where too many wait already, or the store has just failed."""
        if self.pause.lasts:
            return False
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(write)
            self._changed.notify_all()
        return True

    def start(self) -> None:
        """Write in a thread from now on. A server calls this; Lambda flushes after each event."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
                self._thread.start()

    def flush(self) -> int:
        """Do the queued writes until one fails, and wait for all that have begun, for ``FLUSH_S`` at most.

        Returns:
            How many writes are not done: still queued, or begun by a thread that the store keeps waiting.
        """
        deadline, failed = time.monotonic() + FLUSH_S, threading.Event()
        with self._changed:
            n_writers = min(WRITERS, len(self._waiting))
        for _ in range(n_writers):  # daemons: a write that hangs keeps no process from ending
            threading.Thread(target=self._drain, args=(failed, deadline), name="flush", daemon=True).start()
        with self._changed:
            self._changed.wait_for(
                lambda: not self._in_hand and (failed.is_set() or not self._waiting), deadline - time.monotonic()
            )
            left = len(self._waiting) + self._in_hand
        if left:
            log.warning("%d writes to the store are not done", left)
        return left

    def _drain(self, failed: threading.Event, deadline: float) -> None:
        while not failed.is_set() and time.monotonic() < deadline:
            with self._changed:
                if not self._waiting:
                    return
                write = self._take()
            if not self._do(write, failed):
                return

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                write = self._take()
            self._do(write)

    def _take(self) -> Write:
        self._in_hand += 1
        return self._waiting.popleft()

    def _do(self, write: Write, failed: threading.Event | None = None) -> bool:
        try:
            done = write()
        except Exception:  # the thread must outlive a mistake of ours, which the log then shows
            log.exception("a write to the store failed")
            done = True
        if not done:
            self.pause.begin()
            if failed is not None:
                failed.set()
        with self._changed:
            self._in_hand -= 1
            self._changed.notify_all()
        return done
