"""What the store said lately: answers need not ask it each time, nor fail because it does."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import LRUCache

from errors import AppError, StoreUnavailable

TTL_S = 5.0  # how long a process may not notice what another one changed
PAUSE_S = 10.0  # how long a store that has failed is left alone: it may take its time to fail
MAX_REMEMBERED = 256

T = TypeVar("T")


@dataclass(frozen=True)
class _Until(Generic[T]):
    value: T
    until: float


class TtlCache(Generic[T]):
    """Values by name, asked for again after ``TTL_S``; while the store is down, the last that was known holds."""

    def __init__(self) -> None:
        self._known: LRUCache[str, _Until[T]] = LRUCache(MAX_REMEMBERED)
        self._outages: LRUCache[str, _Until[str]] = LRUCache(MAX_REMEMBERED)
        self._lock = threading.Lock()

    def get_or_load(self, name: str, read: Callable[[str], T]) -> T:
        """What ``read`` says, or said a moment ago; of its errors only an outage is remembered.

        Raises:
            StoreUnavailable: the store is down, or was a moment ago, and nothing is known from before.
        """
        with self._lock:
            known, outage = self._known.get(name), self._outages.get(name)
            if known is not None:
                if time.monotonic() < known.until:
                    return known.value
                # while this thread asks, which may take long, others go by what is known
                self._known[name] = _Until(known.value, time.monotonic() + PAUSE_S)
        if known is None and outage is not None and time.monotonic() < outage.until:
            raise StoreUnavailable(outage.value)
        try:
            value, holds_s = read(name), TTL_S
        except StoreUnavailable as error:
            if known is None:
                with self._lock:
                    self._outages[name] = _Until(error.message, time.monotonic() + PAUSE_S)
                raise
            value, holds_s = known.value, PAUSE_S
        except AppError:  # what was known is so no longer
            self.forget(name)
            raise
        with self._lock:
            self._known[name] = _Until(value, time.monotonic() + holds_s)
        return value

    def forget(self, name: str) -> None:
        """Ask the store the next time."""
        with self._lock:
            self._known.pop(name, None)
            self._outages.pop(name, None)
