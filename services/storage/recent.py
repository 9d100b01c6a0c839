"""What the store said lately: answers need not ask it each time, nor fail because it does."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

from errors import StoreUnavailable

TTL_S = 5.0  # how long a process may not notice what another one changed
MAX_REMEMBERED = 256

T = TypeVar("T")


@dataclass(frozen=True)
class _Remembered(Generic[T]):
    value: T
    until: float


class Recent(Generic[T]):
    """Values by name, asked for again after ``TTL_S``; while the store is down, the last that was known holds."""

    def __init__(self) -> None:
        self._remembered: LRUCache[str, _Remembered[T]] = LRUCache(MAX_REMEMBERED)
        self._lock = threading.Lock()

    def recall(self, name: str, read: Callable[[str], T]) -> T:
        """What ``read`` says, or said a moment ago; its errors are raised and not remembered.

        Raises:
            StoreUnavailable: the store is down, and nothing is known from before.
        """
        with self._lock:
            known = self._remembered.get(name)
        now = time.monotonic()
        if known is not None and now < known.until:
            return known.value
        try:
            value = read(name)
        except StoreUnavailable:
            if known is None:
                raise
            value = known.value
        with self._lock:
            self._remembered[name] = _Remembered(value, now + TTL_S)
        return value

    def forget(self, name: str) -> None:
        """Ask the store the next time."""
        with self._lock:
            self._remembered.pop(name, None)
