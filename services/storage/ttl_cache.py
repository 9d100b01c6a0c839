"""The cache of what is read from the store: thread-safe, bounded, and readable while the store is down."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from cachetools import LRUCache

from at_once import may_take_long
from errors import AppError, StoreUnavailable
from services.storage.pause import PAUSE_S, Pause

TTL_S = 5.0  # how long a process may not notice what another one changed

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class _Until(Generic[V]):
    value: V
    until: float


class TtlCache(Generic[K, V]):
    """Values by key, read again after ``TTL_S``; while the store is down, the last known value is served.

    The lock is never kept during a read, so two threads may read the same value.

    Args:
        max_size: the least recently used value is dropped first.
        expires: False for values that never change under their key.
    """

    def __init__(self, max_size: int = 256, *, expires: bool = True) -> None:
        self._known: LRUCache[K, _Until[V]] = LRUCache(max_size)
        self._outages: LRUCache[K, Pause] = LRUCache(max_size)
        self._expires = expires
        self._lock = threading.Lock()

    def get_or_load(self, key: K, load: Callable[[], V]) -> V:
        """The cached value, or what ``load`` returns; of its errors only an outage is remembered.

        Raises:
            StoreUnavailable: the store is down, or was a moment ago, and no earlier value is known.
        """
        with self._lock:
            known, outage = self._known.get(key), self._outages.get(key)
            is_out = outage is not None and outage.lasts
            if known is not None and (is_out or time.monotonic() < known.until):
                return known.value
            if outage is not None and is_out:
                raise StoreUnavailable(outage.reason)
            may_take_long()
            if known is not None:  # while this thread reads, which may take long, others get the value known so far
                self._known[key] = _Until(known.value, time.monotonic() + PAUSE_S)
        try:
            value = load()
        except StoreUnavailable as error:
            with self._lock:
                self._outages.setdefault(key, Pause()).begin(error.message)
            if known is None:
                raise
            return known.value
        except AppError:  # what was known is no longer true
            self.forget(key)
            raise
        with self._lock:
            self._known[key] = _Until(value, time.monotonic() + TTL_S if self._expires else inf)
        return value

    def peek(self, key: K) -> V | None:
        """The cached value, expired or not; None where there is none."""
        with self._lock:
            known = self._known.get(key)
        return None if known is None else known.value

    def forget(self, key: K) -> None:
        """Read the value again the next time."""
        with self._lock:
            self._known.pop(key, None)
            self._outages.pop(key, None)

    def clear(self) -> None:
        """Read every value again the next time."""
        with self._lock:
            self._known.clear()
            self._outages.clear()
