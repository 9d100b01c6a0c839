"""Finds symbols by name among what the price source has."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from errors import UpstreamUnavailable
from schemas.symbols import SymbolFound, SymbolsFound
from services.prices.cache.search import CachedSearch
from services.prices.names import Symbol, best_matches, merged, named, nearest, well_known

FEW = 3  # matches of the well-known symbols below which Yahoo is searched too
SHORTEST_SEARCH = 2  # letters


@dataclass(frozen=True, eq=False)
class SymbolDirectory:
    """What can be found.

    Attributes:
        source: the name of the price source.
        tickers: lists every ticker of the source; None for a source that has more than it can list.
        search: finds tickers of such a source.
    """

    source: str
    tickers: Callable[[], Collection[str]] | None = None
    search: CachedSearch | None = None

    def find(self, query: str, limit: int, now: datetime) -> SymbolsFound:
        """At most ``limit`` symbols for the query, best first; the source's first ones for an empty query."""
        known = list(well_known().values()) if self.tickers is None else named(self.tickers())
        found, incomplete = known, None
        if query:
            found = best_matches(query, known)
            if len(found) < FEW:
                more, incomplete = self._searched(query, now)
                found = merged(found, more)
        matched = bool(found)
        return SymbolsFound(
            query=query,
            source=self.source,
            symbols=tuple(map(_shown, (found or nearest(query, known))[:limit])),
            matched=matched,
            incomplete=incomplete,
        )

    def _searched(self, query: str, now: datetime) -> tuple[list[Symbol], str | None]:
        """What the search finds, or why it finds nothing."""
        if self.search is None or len(query) < SHORTEST_SEARCH:
            return [], None
        try:
            return self.search.search(query, now), None
        except UpstreamUnavailable as error:
            return [], error.message


def _shown(symbol: Symbol) -> SymbolFound:
    return SymbolFound(symbol=symbol.symbol, name=symbol.name, exchange=symbol.exchange, currency=symbol.currency)
