"""The search for symbols with a cache: a query goes to Yahoo once a day, and not while Yahoo fails."""

import threading
from datetime import datetime, timedelta
from typing import Protocol

from cachetools import LRUCache

from services.prices.cache.breaker import CircuitBreaker
from services.prices.names import Symbol

KEPT_FOR = timedelta(days=1)
REMEMBERED = 1024  # queries
PAUSE_S = 45.0


class Searcher(Protocol):
    name: str

    def search(self, query: str, now: datetime) -> list[Symbol]:
        """The symbols for a query, best first; raises PricesRateLimited or PricesUnreachable."""


class CachedSearch:
    """Keeps the answers of a searcher in memory, and stops requests after several failures in a row.

    The circuit is its own: that a search fails does not stop the download of prices.
    """

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._breaker = CircuitBreaker(f"the search of {searcher.name}", PAUSE_S)
        self._known: LRUCache[str, tuple[datetime, list[Symbol]]] = LRUCache(REMEMBERED)
        self._lock = threading.Lock()

    def search(self, query: str, now: datetime) -> list[Symbol]:
        """As the searcher's, for the query in any case and spacing."""
        asked = " ".join(query.casefold().split())
        with self._lock:
            since, found = self._known.get(asked, (None, []))
        if since is not None and abs(now - since) < KEPT_FOR:
            return found
        with self._breaker.request(now):
            found = self._searcher.search(asked, now)
        with self._lock:
            self._known[asked] = now, found
        return found
