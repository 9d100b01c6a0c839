"""A price source with a cache: requests few rows, seldom, and keeps serving while its fetcher fails."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Protocol, TypeGuard

import numpy as np
from cachetools import LRUCache

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
from services.prices.cache.kept import Entry, KeptPrices, PriceStore
from services.prices.calendars import history_at, last_completed_session
from services.prices.cleaning import clean_raw
from services.prices.series import PriceHistory, PriceSeries, RawBars, to_date, validate_ticker
from telemetry.measures import NO_METER, PRICE_CACHE, Meter

OVERLAP = 10  # sessions fetched again with every tail: a rewritten history and late rows show there
AGREEMENT = 1e-5  # relative difference of closes that is rounding
REMEMBERED_FAILURES = 1024
REMEMBERED_LOOKS = 1024
LOOK_AGAIN_S = 15.0  # how long the stores are not read again for a ticker that needs a fetch
NOT_FOUND_PAUSE_S = 600  # until a ticker with cached prices is requested again after a 404
NOT_FOUND_FOR = timedelta(hours=1)  # how long a ticker with cached prices must be missing to count as unknown

# Calendar days that hold a number of sessions: the exchanges with the fewest have 235 a year, and the longest
# holidays last two weeks.
_DAYS_PER_SESSION, _SLACK_DAYS = 365.25 / 235, 20
_LONGEST_RECENT = 10_000  # sessions; beyond, the whole history is requested

_LOOK_AGAIN = timedelta(seconds=LOOK_AGAIN_S)
_log = logging.getLogger(__name__)


class Fetcher(Protocol):
    """What fetches prices from somewhere slow and unreliable; ``name`` becomes the history's source."""

    name: str

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        """Rows from ``start``, or from the first one known; raises the errors of ``PriceSource.history``."""
        ...


@dataclass(frozen=True)
class _Failure:
    """An error that is raised again, without a request, until a moment."""

    error: AppError
    until: datetime


@dataclass(frozen=True)
class _Look:
    """When the stores were last read for a ticker, and whether they had it."""

    at: datetime
    found: bool


class CachedSource:
    """The history of each ticker, kept as fetched in memory, in a local store and in an optional shared store.

    Within the time to live nothing is requested. After it only the tail is, with
    a few sessions known already. When their closes agree, the tail replaces the
    newest rows. When they do not, a split or a dividend has rewritten the
    history, and it is fetched again. A caller that needs only recent sessions
    causes a partial fetch; the entry is then partial until a caller needs more.

    When the fetcher is unavailable, what is cached is served as stale. Failures
    are remembered per ticker, and a circuit breaker stops all requests after
    several failures in a row. Threads that need one ticker share one fetch.

    Args:
        fetcher: where prices come from.
        store: keeps entries on this machine.
        ttl_s: seconds within which a history is served without a request.
        meter: counts hits, misses and stale answers.
        shared: keeps entries for several machines; read before the fetcher is used.
        whole_ttl_s: seconds after which the oldest rows are fetched again, to pick up late corrections.
        pause_s: seconds without a request after a failure, where the fetcher does not say how long.
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
        self._looks: LRUCache[str, _Look] = LRUCache(REMEMBERED_LOOKS)
        self._failures: LRUCache[str, _Failure] = LRUCache(REMEMBERED_FAILURES)
        self._guard = threading.Lock()  # of the three maps above; never locked during a fetch
        self._locks = _KeyedLocks()

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        """The completed sessions of ``ticker``, fetched only where the cache lacks them or is too old.

        Raises:
            TickerNotFound: the fetcher does not know it, or did not a short while ago. A ticker with cached prices
                must be missing for an hour first.
            UnknownExchange: nothing says which calendar it follows.
            PricesInvalid: not a single row is usable, and the cache has too little.
            UpstreamUnavailable: the fetcher failed, now or a short while ago, and the cache has too little.
        """
        validate_ticker(ticker)
        with self._locks.hold(ticker):
            entry = self._known(ticker, recent, now)
            if self._is_current(entry, recent, now):
                self._meter.record(PRICE_CACHE, outcome="hit")
                return self._answer(entry, now)
            outcome = "miss"
            try:
                return self._answer(self._refreshed(ticker, entry, recent, now), now)
            except (UpstreamUnavailable, PricesInvalid) as error:
                if not _suffices(entry, recent):
                    raise
                outcome = "stale"
                _log.warning("serving %s as of %s: %s", ticker, entry.series.last_session, error.message)
                return self._answer(entry, now, stale=True)
            finally:
                self._meter.record(PRICE_CACHE, outcome=outcome)

    def _answer(self, entry: Entry, now: datetime, *, stale: bool = False) -> PriceHistory:
        return history_at(entry.series, now, source=self._fetcher.name, defects=entry.defects, stale=stale)

    def _is_current(self, entry: Entry | None, recent: int | None, now: datetime) -> TypeGuard[Entry]:
        return _suffices(entry, recent) and abs(now - entry.fetched_at) < self._ttl

    def _known(self, ticker: str, recent: int | None, now: datetime) -> Entry | None:
        """The best entry of memory and stores; a store is read only when the tiers before it have no current entry."""
        with self._guard:
            best = self._entries.get(ticker)
            look = self._looks.get(ticker)
        if self._is_current(best, recent, now):
            return best
        if look is not None and abs(now - look.at) < _LOOK_AGAIN and (best is not None or not look.found):
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
            self._looks[ticker] = _Look(now, found=best is not None)
            if best is not None:
                self._entries[ticker] = best
        return best

    def _keep(self, entry: Entry, now: datetime) -> None:
        with self._guard:
            self._entries[entry.ticker] = entry
            self._looks.pop(entry.ticker, None)
        for tier in self._tiers:
            tier.write(entry, now)

    def _refreshed(self, ticker: str, entry: Entry | None, recent: int | None, now: datetime) -> Entry:
        self._raise_remembered(ticker, now)
        try:
            fresh = self._fetched(ticker, entry, recent, now)
        except TickerNotFound as error:
            if entry is not None and not self._is_gone(entry, now):
                raise self._temporarily_missing(entry, now) from error
            self._remember(ticker, error, now)
            raise
        except AppError as error:
            # while the circuit is open, the breaker refuses requests for every ticker
            if not (isinstance(error, FAILURES) and self._breaker.is_open(now)):
                self._remember(ticker, error, now)
            raise
        self._keep(fresh, now)
        return fresh

    def _is_gone(self, entry: Entry, now: datetime) -> bool:
        return entry.not_found_since is not None and now - entry.not_found_since >= NOT_FOUND_FOR

    def _temporarily_missing(self, entry: Entry, now: datetime) -> AppError:
        """Record that the fetcher does not find a ticker that it knew before, and the error that says so."""
        since = entry.not_found_since or now
        if entry.not_found_since is None:
            self._keep(replace(entry, not_found_since=now), now)
        name = self._fetcher.name
        message = f"{name} has not found {entry.ticker} since {since:%Y-%m-%d %H:%M %Z}, although it did before"
        error = PricesUnreachable(message, retry_after_s=NOT_FOUND_PAUSE_S, ticker=entry.ticker)
        self._remember(entry.ticker, error, now)
        return error

    def _fetched(self, ticker: str, entry: Entry | None, recent: int | None, now: datetime) -> Entry:
        if _suffices(entry, recent) and now - entry.first_fetched_at < self._whole_ttl:
            start = to_date(entry.series.sessions[-OVERLAP:][0])
            tail = self._fetch(ticker, start, now, entry)
            if _agrees(entry.series, tail):
                return Entry.of(
                    ticker,
                    _final(ticker, _spliced(entry.raw, tail), now),
                    fetched_at=now,
                    first_fetched_at=entry.first_fetched_at,
                    first_day=entry.first_day,
                )
            _log.info("the closes of %s have changed: fetching its history again", ticker)
        if recent is not None and not (entry is not None and entry.whole):
            partial = self._fetched_partly(ticker, recent, now, entry)
            if partial is not None:
                return partial
        return self._fetched_from(ticker, None, now, entry)

    def _fetched_partly(self, ticker: str, recent: int, now: datetime, known: Entry | None) -> Entry | None:
        """The newest sessions only; None where they are fewer than ``recent``."""
        if recent > _LONGEST_RECENT:
            return None
        start = now.date() - timedelta(days=int(recent * _DAYS_PER_SESSION) + _SLACK_DAYS)
        try:
            entry = self._fetched_from(ticker, start, now, known)
        except (PricesEmpty, PricesInvalid):
            return None
        return entry if _suffices(entry, recent) else None

    def _fetched_from(self, ticker: str, start: date | None, now: datetime, known: Entry | None) -> Entry:
        raw = _final(ticker, self._fetch(ticker, start, now, known), now)
        return Entry.of(ticker, raw, fetched_at=now, first_fetched_at=now, first_day=start)

    def _fetch(self, ticker: str, start: date | None, now: datetime, known: Entry | None) -> RawBars:
        """Rows of the fetcher; what one answer lacks of currency and listing is taken from those before."""
        with self._breaker.request(now):
            raw = self._fetcher.fetch(ticker, start, now)
        if known is None:
            return raw
        return replace(raw, currency=raw.currency or known.raw.currency, listing=raw.listing or known.raw.listing)

    def _raise_remembered(self, ticker: str, now: datetime) -> None:
        with self._guard:
            failure = self._failures.get(ticker)
        if failure is not None and now < failure.until:
            raise _again(failure, now)

    def _remember(self, ticker: str, error: AppError, now: datetime) -> None:
        until = now + timedelta(seconds=self._standing_s(error))
        with self._guard:
            self._failures[ticker] = _Failure(error, until)

    def _standing_s(self, error: AppError) -> float:
        if isinstance(error, TickerNotFound | UnknownExchange):
            return self._unknown_ttl_s
        return self._pause_s if error.retry_after_s is None else min(error.retry_after_s, LONGEST_PAUSE_S)


def _suffices(entry: Entry | None, recent: int | None) -> TypeGuard[Entry]:
    """Whether the entry has as many sessions as needed, whatever its age."""
    return entry is not None and (entry.whole or (recent is not None and entry.n_sessions >= recent))


def _is_better(found: Entry, best: Entry | None, recent: int | None) -> bool:
    if best is None:
        return True
    return (_suffices(found, recent), found.fetched_at) > (_suffices(best, recent), best.fetched_at)


def _final(ticker: str, raw: RawBars, now: datetime) -> RawBars:
    """The rows up to the newest completed session: an unfinished bar would look like a rewritten history tomorrow.

    Raises:
        PricesEmpty: no session was completed.
        PricesInvalid: not a single row is usable.
        UnknownExchange: nothing says which calendar the ticker follows.
    """
    series, defects = clean_raw(ticker, raw)
    completed = history_at(series, now, source="", defects=defects).as_of  # may be a session that no calendar lists
    newest = max(completed, last_completed_session(series.exchange, now))
    kept = ~(raw.sessions > np.datetime64(newest))
    return replace(raw, sessions=raw.sessions[kept], bars=raw.bars[kept])


def _spliced(known: RawBars, tail: RawBars) -> RawBars:
    """The known rows before the tail's first day, then the tail: of two answers the newer one counts."""
    before = ~(known.sessions >= tail.sessions.min())
    return RawBars(
        np.concatenate([known.sessions[before], tail.sessions]),
        np.concatenate([known.bars[before], tail.bars]),
        tail.currency,
        tail.listing,
    )


def _agrees(known: PriceSeries, tail: RawBars) -> bool:
    """Whether the days that both have carry the same closes, up to rounding; False where there are no such days."""
    _, ours, theirs = np.intersect1d(known.sessions, tail.sessions, return_indices=True)
    before, after = known.close[ours], tail.bars[theirs, 3]
    comparable = np.isfinite(after) & (after > 0)
    return bool(comparable.any()) and np.allclose(after[comparable], before[comparable], rtol=AGREEMENT, atol=0.0)


def _again(failure: _Failure, now: datetime) -> AppError:
    """The remembered error as a new exception that says how long it still stands."""
    error = failure.error
    left_s = max(1, round((failure.until - now).total_seconds()))
    retry_after_s = left_s if isinstance(error, UpstreamUnavailable) else error.retry_after_s
    return type(error)(error.message, retry_after_s=retry_after_s, **error.context)


class _KeyedLocks:
    """One lock per key; a lock exists only while a thread holds it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._in_use: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def hold(self, key: str) -> Iterator[None]:
        """Wait for the key's lock and hold it."""
        lock = self._join(key)
        try:
            with lock:
                yield
        finally:
            self._leave(key)

    def _join(self, key: str) -> threading.Lock:
        with self._guard:
            lock, users = self._in_use.get(key, (threading.Lock(), 0))
            self._in_use[key] = (lock, users + 1)
            return lock

    def _leave(self, key: str) -> None:
        with self._guard:
            lock, users = self._in_use.pop(key)
            if users > 1:
                self._in_use[key] = (lock, users - 1)
