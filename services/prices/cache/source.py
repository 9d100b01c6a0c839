"""A price source with a cache: it requests few rows, rarely, and keeps serving while its fetcher fails."""

import logging
import threading
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Protocol, TypeGuard
from weakref import WeakValueDictionary

import numpy as np
from cachetools import LRUCache

from at_once import may_take_long
from errors import (
    AppError,
    PricesEmpty,
    PricesInvalid,
    PricesUnreachable,
    TickerNotFound,
    UnknownExchange,
    UpstreamUnavailable,
)
from services.prices.cache.breaker import FAILURES, LONGEST_PAUSE_S, CircuitBreaker
from services.prices.cache.kept import Entry, Fetch, KeptPrices, PriceStore
from services.prices.calendars import history_at
from services.prices.series import PriceHistory, PriceSeries, RawBars, to_date, validate_ticker
from telemetry.measures import NO_METER, PRICE_CACHE, Meter

OVERLAP = 10  # sessions fetched again with every tail, to find a rewritten history and late rows
AGREEMENT = 1e-5  # relative difference of closes that is rounding
REMEMBERED_FAILURES = 1024
REMEMBERED_READS = 1024
READ_AGAIN_S = 15.0  # until the stores are read again for a ticker that needs a fetch
NOT_FOUND_PAUSE_S = 600  # until a ticker with cached prices is requested again after a 404
NOT_FOUND_FOR = timedelta(hours=1)  # how long a ticker with cached prices must be missing to count as unknown

# Calendar days that hold a number of sessions: the exchanges with the fewest have 235 a year, and the longest
# holidays last two weeks.
_DAYS_PER_SESSION, _SLACK_DAYS = 365.25 / 235, 20
_LONGEST_RECENT = 10_000  # sessions; beyond, the whole history is requested

_READ_AGAIN = timedelta(seconds=READ_AGAIN_S)
_log = logging.getLogger(__name__)


class Fetcher(Protocol):
    """Fetches prices from somewhere slow and unreliable; ``name`` becomes the history's source."""

    name: str

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        """Rows from ``start``, or from the first one known; raises the errors of ``PriceSource.history``."""


class CachedSource:
    """The history of each ticker, kept as fetched in memory, in a local store and in an optional shared store.

    Within the time to live nothing is requested. After it, the newest rows are, with a few cached sessions.
    If the closes of the overlap agree, the new rows replace the newest cached ones. If not, a split or a dividend has
    rewritten the history, and it is fetched again. A caller that needs only recent sessions
    causes a partial fetch; the entry is then partial until a caller needs more.

    When the fetcher is unavailable, cached prices are served as stale. Failures are remembered per ticker, and a
    circuit breaker stops all requests after several failures in a row. A ticker with cached prices becomes unknown
    if it is not found for an hour. Threads that need one ticker share one fetch.

    Args:
        fetcher: where prices come from.
        store: keeps entries on this machine.
        ttl_s: seconds within which a history is served without a request.
        meter: counts hits, misses and stale answers.
        shared: keeps entries for several machines; read before the fetcher is used.
        whole_ttl_s: seconds after which the oldest rows are fetched again, to pick up late corrections.
        pause_s: seconds without a request after a failure, if the fetcher does not say how long.
        unknown_ttl_s: seconds a ticker stays unknown.
        memory_tickers: how many entries are kept in memory.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        store: PriceStore,
        ttl_s: float,
        meter: Meter = NO_METER,
        shared: PriceStore | None = None,
        *,
        whole_ttl_s: float = 7 * 86_400.0,
        pause_s: float = 45.0,
        unknown_ttl_s: float = 6 * 3_600.0,
        memory_tickers: int = 64,
    ) -> None:
        self._fetcher = fetcher
        self._tiers = [KeptPrices(tier) for tier in (store, shared) if tier is not None]
        self._ttl = timedelta(seconds=ttl_s)
        self._meter = meter
        self._whole_ttl = timedelta(seconds=whole_ttl_s)
        self._pause_s = pause_s
        self._unknown_ttl_s = unknown_ttl_s
        self._breaker = CircuitBreaker(fetcher.name, pause_s)
        self._entries: LRUCache[str, Entry] = LRUCache(memory_tickers)
        self._reads: LRUCache[str, tuple[datetime, bool]] = LRUCache(REMEMBERED_READS)  # of the stores: when, and found
        self._failures: LRUCache[str, tuple[datetime, AppError]] = LRUCache(REMEMBERED_FAILURES)  # raised until then
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()  # of the tickers in work
        self._guard = threading.Lock()  # of the four maps above; never locked during a fetch
        self._answer = partial(history_at, source=fetcher.name)

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        with self._guard:
            entry = self._entries.get(ticker)
        if self._is_current(entry, recent, now):
            self._meter.record(PRICE_CACHE, outcome="hit")
            return self._answer(entry.series, now, defects=entry.defects)
        may_take_long()
        with self._lock_of(validate_ticker(ticker)):
            return self._history(ticker, now, recent)

    def _lock_of(self, ticker: str) -> threading.Lock:
        """One lock per ticker, which exists while a thread uses it."""
        with self._guard:
            return self._locks.setdefault(ticker, threading.Lock())

    def _history(self, ticker: str, now: datetime, recent: int | None) -> PriceHistory:
        entry, outcome, stale = self._known(ticker, recent, now), "hit", False
        try:
            if not self._is_current(entry, recent, now):
                outcome = "miss"
                entry = self._refreshed(ticker, entry, recent, now)
        except (UpstreamUnavailable, PricesInvalid) as error:
            if not _suffices(entry, recent):
                raise
            outcome, stale = "stale", True
            _log.warning("serving %s as of %s: %s", ticker, entry.series.last_session, error.message)
        finally:
            self._meter.record(PRICE_CACHE, outcome=outcome)
        return self._answer(entry.series, now, defects=entry.defects, stale=stale)

    def _is_current(self, entry: Entry | None, recent: int | None, now: datetime) -> TypeGuard[Entry]:
        return _suffices(entry, recent) and abs(now - entry.fetch.fetched_at) < self._ttl

    def _known(self, ticker: str, recent: int | None, now: datetime) -> Entry | None:
        """The best entry of memory and stores; a store is read only when the tiers before it have no current entry."""
        with self._guard:
            best = self._entries.get(ticker)
            read_at, found_any = self._reads.get(ticker, (None, False))
        if self._is_current(best, recent, now):
            return best
        if read_at is not None and abs(now - read_at) < _READ_AGAIN and (best is not None or not found_any):
            return best
        for number, tier in enumerate(self._tiers):
            found = tier.read(ticker, now)
            if found is not None and _is_better(found, best, recent):
                best = found
                for nearer in self._tiers[:number]:
                    nearer.write(found, now)
            if self._is_current(best, recent, now):
                break
        with self._guard:
            self._reads[ticker] = now, best is not None
            if best is not None:
                self._entries[ticker] = best
        return best

    def _keep(self, entry: Entry, now: datetime) -> None:
        with self._guard:
            self._entries[entry.fetch.ticker] = entry
            self._reads.pop(entry.fetch.ticker, None)
        for tier in self._tiers:
            tier.write(entry, now)

    def _refreshed(self, ticker: str, entry: Entry | None, recent: int | None, now: datetime) -> Entry:
        self._raise_remembered(ticker, now)
        try:
            fresh = self._fetched(ticker, entry, recent, now)
        except TickerNotFound as error:
            since = None if entry is None else entry.fetch.not_found_since or now
            if entry is None or since is None or now - since >= NOT_FOUND_FOR:
                self._remember(ticker, error, now)
                raise
            raise self._temporarily_missing(entry, since, now) from error
        except AppError as error:
            # while the circuit is open, the breaker refuses requests for every ticker
            if not (isinstance(error, FAILURES) and self._breaker.is_open(now)):
                self._remember(ticker, error, now)
            raise
        self._keep(fresh, now)
        return fresh

    def _temporarily_missing(self, entry: Entry, since: datetime, now: datetime) -> AppError:
        """Record that the fetcher no longer finds a ticker, and return the error for it."""
        if entry.fetch.not_found_since is None:
            self._keep(replace(entry, fetch=entry.fetch.model_copy(update={"not_found_since": now})), now)
        ticker, name = entry.fetch.ticker, self._fetcher.name
        message = f"{name} has not found {ticker} since {since:%Y-%m-%d %H:%M %Z}, although it did before"
        error = PricesUnreachable(message, retry_after_s=NOT_FOUND_PAUSE_S, ticker=ticker)
        self._remember(ticker, error, now)
        return error

    def _fetched(self, ticker: str, entry: Entry | None, recent: int | None, now: datetime) -> Entry:
        if _suffices(entry, recent) and now - entry.fetch.first_fetched_at < self._whole_ttl:
            tail = self._fetch(ticker, to_date(entry.series.sessions[-OVERLAP:][0]), now, entry)
            if _agrees(entry.series, tail):
                newer = {"fetched_at": now, "not_found_since": None, "currency": tail.currency, "listing": tail.listing}
                return Entry.of(entry.fetch.model_copy(update=newer), _spliced(entry.raw, tail))
            _log.info("the closes of %s have changed: fetching its history again", ticker)
        if recent is not None and (entry is None or entry.fetch.first_day is not None):
            partial_entry = self._fetched_partly(ticker, recent, now, entry)
            if partial_entry is not None:
                return partial_entry
        return self._fetched_from(ticker, None, now, entry)

    def _fetched_partly(self, ticker: str, recent: int, now: datetime, known: Entry | None) -> Entry | None:
        """The newest sessions only; None if they are fewer than ``recent``."""
        if recent > _LONGEST_RECENT:
            return None
        start = now.date() - timedelta(days=int(recent * _DAYS_PER_SESSION) + _SLACK_DAYS)
        try:
            entry = self._fetched_from(ticker, start, now, known)
        except (PricesEmpty, PricesInvalid):
            return None
        return entry if _suffices(entry, recent) else None

    def _fetched_from(self, ticker: str, start: date | None, now: datetime, known: Entry | None) -> Entry:
        raw = self._fetch(ticker, start, now, known)
        times = {"fetched_at": now, "first_fetched_at": now, "first_day": start}
        return Entry.of(Fetch(ticker=ticker, currency=raw.currency, listing=raw.listing, **times), raw)

    def _fetch(self, ticker: str, start: date | None, now: datetime, known: Entry | None) -> RawBars:
        """Fetch rows; a currency or listing missing in the answer is taken from the previous entry."""
        with self._breaker.request(now):
            raw = self._fetcher.fetch(ticker, start, now)
        if known is None:
            return raw
        return replace(raw, currency=raw.currency or known.raw.currency, listing=raw.listing or known.raw.listing)

    def _raise_remembered(self, ticker: str, now: datetime) -> None:
        with self._guard:
            until, error = self._failures.get(ticker, (now, None))
        if error is not None and now < until:
            left_s = max(1, round((until - now).total_seconds()))
            retry_after_s = left_s if isinstance(error, UpstreamUnavailable) else error.retry_after_s
            raise type(error)(error.message, retry_after_s=retry_after_s, **error.context)

    def _remember(self, ticker: str, error: AppError, now: datetime) -> None:
        if isinstance(error, TickerNotFound | UnknownExchange):
            pause_s = self._unknown_ttl_s
        else:
            pause_s = self._pause_s if error.retry_after_s is None else min(error.retry_after_s, LONGEST_PAUSE_S)
        with self._guard:
            self._failures[ticker] = now + timedelta(seconds=pause_s), error


def _suffices(entry: Entry | None, recent: int | None) -> TypeGuard[Entry]:
    """Whether the entry has as many sessions as needed, whatever its age."""
    return entry is not None and (entry.fetch.first_day is None or (recent is not None and entry.n_sessions >= recent))


def _is_better(found: Entry, best: Entry | None, recent: int | None) -> bool:
    if best is None:
        return True
    return (_suffices(found, recent), found.fetch.fetched_at) > (_suffices(best, recent), best.fetch.fetched_at)


def _spliced(known: RawBars, tail: RawBars) -> RawBars:
    """The known rows before the tail's first day, then the tail, because the newer answer counts."""
    before = ~(known.sessions >= tail.sessions.min())
    return RawBars(
        np.concatenate([known.sessions[before], tail.sessions]),
        np.concatenate([known.bars[before], tail.bars]),
        tail.currency,
        tail.listing,
    )


def _agrees(known: PriceSeries, tail: RawBars) -> bool:
    """Whether common days have the same closes, up to rounding; False if there are no common days."""
    _, ours, theirs = np.intersect1d(known.sessions, tail.sessions, return_indices=True)
    before, after = known.close[ours], tail.bars[theirs, 3]
    comparable = np.isfinite(after) & (after > 0)
    return bool(comparable.any()) and np.allclose(after[comparable], before[comparable], rtol=AGREEMENT, atol=0.0)
