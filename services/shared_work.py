"""Work that several callers wait for is done once, a bounded amount waits, and what no caller waits for is dropped."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from errors import TooManyRequests

T = TypeVar("T")


@dataclass(eq=False)
class _Task(Generic[T]):
    result: Future[T]
    n_callers: int = 0


class SharedWork(Generic[T]):
    """Runs functions in threads, those of the same key once for all callers of the same time.

    Args:
        name: of the threads.
        at_once: how many run.
        max_waiting: how many more may wait for a thread.
        refusal: makes the error for any more.
    """

    def __init__(self, name: str, at_once: int, max_waiting: int, refusal: Callable[[], TooManyRequests]) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix=name)
        self._most = at_once + max_waiting
        self._refusal = refusal
        self._tasks: dict[str, _Task[T]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def result_of(self, key: str, work: Callable[[], T]) -> Iterator[Future[T]]:
        """What ``work`` returns, later. Work that has not begun when its last caller leaves the block is dropped.

        Raises:
            TooManyRequests: the refusal; too much other work waits.
        """
        with self._lock:
            task = self._joined(key, work)
            task.n_callers += 1
        try:
            yield task.result
        finally:
            with self._lock:
                task.n_callers -= 1
                if not task.n_callers and task.result.cancel():
                    del self._tasks[key]

    @property
    def callers(self) -> list[int]:
        """How many wait for each piece of work, the oldest first."""
        with self._lock:
            return [task.n_callers for task in self._tasks.values()]

    def _joined(self, key: str, work: Callable[[], T]) -> _Task[T]:
        if key not in self._tasks:
            if len(self._tasks) >= self._most:
                raise self._refusal()
            in_context = partial(copy_context().run, self._run, key, work)  # of the first caller
            self._tasks[key] = _Task(self._threads.submit(in_context))
        return self._tasks[key]

    def _run(self, key: str, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            with self._lock:
                del self._tasks[key]
