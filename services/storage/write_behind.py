"""Writes to the store that no answer waits for: bounded, from a thread of their own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Full, Queue

from services.storage.pause import Pause

MAX_WAITING = 1000
WRITERS = 8  # at once in a flush: enough to hide the latency of S3
FLUSH_S = 30.0  # for a write that the thread has begun

Write = Callable[[], bool]
"""Writes one document and logs its own failure; False after a failure of the store."""


class WriteBehind:
    """A queue of writes and the thread that does them; after a failure of the store, ``pause`` refuses more."""

    def __init__(self) -> None:
        self._waiting: Queue[Write] = Queue(MAX_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.pause = Pause()

    def put(self, write: Write) -> bool:
        """Queue a write; False where too many wait already, or the store has just failed."""
        if self.pause.lasts:
            return False
        try:
            self._waiting.put_nowait(write)
        except Full:
            return False
        return True

    def start(self) -> None:
        """Write in a thread from now on. A server calls this; Lambda flushes after each event."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Do the queued writes until one fails, and wait for the one that the thread has begun."""
        with ThreadPoolExecutor(WRITERS) as writers:
            while batch := self._take(WRITERS):
                if not all(tuple(writers.map(self._do, batch))):
                    return
        with self._waiting.all_tasks_done:
            self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, FLUSH_S)

    def _take(self, count: int) -> list[Write]:
        taken: list[Write] = []
        while len(taken) < count:
            try:
                taken.append(self._waiting.get_nowait())
            except Empty:
                break
        return taken

    def _run(self) -> None:
        while True:
            self._do(self._waiting.get())

    def _do(self, write: Write) -> bool:
        try:
            done = write()
        finally:
            self._waiting.task_done()
        if not done:
            self.pause.begin()
        return done
