"""A price source that remembers: asks its fetcher seldom, for little, and survives the fetcher's failures."""

import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol, Self
from urllib.parse import quote

import numpy as np
from cachetools import LRUCache
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError, model_validator

from errors import AppError, PricesEmpty, PricesInvalid, PricesRateLimited, TickerNotFound, UpstreamUnavailable
from services.prices.calendars import exchange_of, history_at, last_completed_session
from services.prices.series import PriceHistory, PriceSeries, RawBars, clean, require_ticker, to_date
from telemetry.measures import NO_METER, PRICE_CACHE, Meter

OVERLAP = 5  # sessions fetched again with every tail, to see whether their adjusted closes still stand
REMEMBERED_FAILURES = 1024
LONGEST_PAUSE_S = 900.0  # no server's Retry-After silences us longer

_EVERY_TICKER = "*"  # not a possible ticker
_log = logging.getLogger(__name__)


class Fetcher(Protocol):
    """What fetches prices from somewhere slow and unreliable; ``name`` becomes the history's source."""

    name: str

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        """Rows from ``start``, or from the first one known; raises the errors of ``PriceSource.history``."""
        ...


@dataclass(frozen=True, eq=False)
class _Entry:
    """A cached series, when it was last brought up to date and when last fetched whole."""

    series: PriceSeries
    dropped: dict[str, int]
    fetched_at: datetime
    whole_at: datetime


@dataclass(frozen=True)
class _Failure:
    """An error that stands, unasked, until a moment."""

    error: AppError
    until: datetime


class CachedSource:
    """The whole history of each ticker, in memory and on disk, so that any slice of it is local.

    Within the time to live nothing is requested. After it only the tail is, with
    a few sessions known already: when their adjusted closes have changed, a split
    or a dividend has rewritten the history and all of it is fetched. When the
    fetcher is unavailable, what is cached is served as stale. Failures are
    remembered, so that neither a dead server nor a ticker that does not exist
    costs a wait each time. Threads that ask for one ticker share one fetch.

    Args:
        fetcher: where prices come from.
        folder: one JSON document per ticker; created when missing, done without when not writable.
        ttl_s: seconds within which a history is served without asking again.
        meter: told of hits, misses and stale answers.
        whole_ttl_s: seconds after which all of a history is fetched again, to pick up late corrections.
        pause_s: seconds an unavailable fetcher is left alone, where it does not say itself.
        unknown_ttl_s: seconds a ticker stays unknown.
        memory_tickers: how many histories are held in memory.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        folder: Path,
        ttl_s: float,
        meter: Meter = NO_METER,
        *,
        whole_ttl_s: float = 7 * 86_400.0,
        pause_s: float = 45.0,
        unknown_ttl_s: float = 6 * 3_600.0,
        memory_tickers: int = 64,
    ) -> None:
        self._fetcher = fetcher
        self._disk = _Disk(folder)
        self._ttl = timedelta(seconds=ttl_s)
        self._meter = meter
        self._whole_ttl = timedelta(seconds=whole_ttl_s)
        self._pause_s = pause_s
        self._unknown_ttl_s = unknown_ttl_s
        self._entries: LRUCache[str, _Entry] = LRUCache(memory_tickers)
        self._failures: LRUCache[str, _Failure] = LRUCache(REMEMBERED_FAILURES)
        self._guard = threading.Lock()  # of the two maps above; never held during a fetch
        self._locks = _KeyedLocks()

    def history(self, ticker: str, now: datetime) -> PriceHistory:
        """The completed sessions of ``ticker``, fetched only where the cache is missing or too old.

        Raises:
            TickerNotFound: the fetcher does not know it, or did not a short while ago.
            UnknownExchange: no calendar is known for its suffix.
            PricesInvalid: too few of its rows are usable.
            UpstreamUnavailable: the fetcher failed, now or a short while ago, and nothing is cached.
        """
        exchange_of(require_ticker(ticker))
        with self._locks.hold(ticker):
            entry = self._cached(ticker)
            if entry is not None and now - entry.fetched_at < self._ttl:
                self._meter.record(PRICE_CACHE, outcome="hit")
                return self._answer(entry, now)
            outcome = "miss"
            try:
                return self._answer(self._refreshed(ticker, entry, now), now)
            except UpstreamUnavailable as error:
                if entry is None:
                    raise
                outcome = "stale"
                _log.warning("serving %s as of %s: %s", ticker, entry.series.last_session, error.message)
                return self._answer(entry, now, stale=True)
            finally:
                self._meter.record(PRICE_CACHE, outcome=outcome)

    def _answer(self, entry: _Entry, now: datetime, *, stale: bool = False) -> PriceHistory:
        return history_at(entry.series, now, source=self._fetcher.name, dropped=entry.dropped, stale=stale)

    def _cached(self, ticker: str) -> _Entry | None:
        with self._guard:
            entry = self._entries.get(ticker)
        if entry is None:
            entry = self._disk.read(ticker)
            if entry is not None:
                self._hold(entry)
        return entry

    def _hold(self, entry: _Entry) -> None:
        with self._guard:
            self._entries[entry.series.ticker] = entry

    def _refreshed(self, ticker: str, entry: _Entry | None, now: datetime) -> _Entry:
        self._refuse_while_failing(ticker, now)
        try:
            fresh = self._fetched(ticker, entry, now)
        except AppError as error:
            self._remember(ticker, error, now)
            raise
        self._hold(fresh)
        self._disk.write(fresh)
        return fresh

    def _fetched(self, ticker: str, entry: _Entry | None, now: datetime) -> _Entry:
        if entry is not None and now - entry.whole_at < self._whole_ttl:
            tail_start = to_date(entry.series.sessions[-OVERLAP:][0])
            extended = _extended(entry, self._fetch(ticker, tail_start, now), now)
            if extended is not None:
                return extended
            _log.info("the adjusted closes of %s have changed, fetching all of its history", ticker)
        raw = self._fetch(ticker, None, now)
        series, dropped = clean(ticker, raw.sessions, raw.bars, raw.currency)
        return _Entry(series, dropped, fetched_at=now, whole_at=now)

    def _fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        """What is final of what the fetcher has: an unfinished bar would look like a rewritten history tomorrow."""
        raw = self._fetcher.fetch(ticker, start, now)
        final = raw.sessions <= np.datetime64(last_completed_session(ticker, now))
        if not final.any():
            raise PricesEmpty(f"no session of {ticker} was completed by {now}", ticker=ticker)
        return RawBars(raw.sessions[final], raw.bars[final], raw.currency)

    def _refuse_while_failing(self, ticker: str, now: datetime) -> None:
        with self._guard:
            failures = [self._failures.get(key) for key in (ticker, _EVERY_TICKER)]
        for failure in failures:
            if failure is not None and now < failure.until:
                raise _again(failure, now)

    def _remember(self, ticker: str, error: AppError, now: datetime) -> None:
        until = now + timedelta(seconds=self._standing_s(error))
        key = _EVERY_TICKER if isinstance(error, PricesRateLimited) else ticker  # a limit is on us, not on the ticker
        with self._guard:
            self._failures[key] = _Failure(error, until)

    def _standing_s(self, error: AppError) -> float:
        if isinstance(error, TickerNotFound):
            return self._unknown_ttl_s
        return self._pause_s if error.retry_after_s is None else min(error.retry_after_s, LONGEST_PAUSE_S)


def _extended(entry: _Entry, tail: RawBars, now: datetime) -> _Entry | None:
    """The entry with the tail's new sessions; None where the tail contradicts it or does not meet it."""
    known = entry.series
    if not _agrees(known, tail):
        return None
    priced = tail.sessions[np.isfinite(tail.bars[:, :4]).all(axis=1)]
    # rows without a price at the very end come again with the next tail, and are counted then
    newer = (tail.sessions > known.sessions[-1]) & (tail.sessions <= priced.max())
    series, dropped = clean(
        known.ticker,
        np.concatenate([known.sessions, tail.sessions[newer]]),
        np.concatenate([known.bars, tail.bars[newer]]),
        known.currency,
    )
    return replace(entry, series=series, dropped=_sum(entry.dropped, dropped), fetched_at=now)


def _sum(before: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {reason: before.get(reason, 0) + more.get(reason, 0) for reason in {**before, **more}}


def _agrees(known: PriceSeries, tail: RawBars) -> bool:
    """Whether the sessions both have carry the same adjusted closes, up to rounding; False where there are none."""
    _, ours, theirs = np.intersect1d(known.sessions, tail.sessions, return_indices=True)
    before, after = known.close[ours], tail.bars[theirs, 3]
    comparable = np.isfinite(tail.bars[theirs, :4]).all(axis=1)
    return bool(comparable.any()) and np.allclose(after[comparable], before[comparable], rtol=1e-5, atol=1e-6)


def _again(failure: _Failure, now: datetime) -> AppError:
    """The remembered error as a new exception, telling how long it still stands."""
    error = failure.error
    left_s = max(1, round((failure.until - now).total_seconds()))
    retry_after_s = left_s if isinstance(error, UpstreamUnavailable) else error.retry_after_s
    return type(error)(error.message, retry_after_s=retry_after_s, **error.context)


class _KeyedLocks:
    """One lock per key; a lock exists only while somebody holds it or waits for it."""

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


class _Document(BaseModel):
    """A cached history on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    ticker: str
    currency: str | None
    fetched_at: AwareDatetime
    whole_at: AwareDatetime
    dropped: dict[str, int]
    sessions: list[date]
    bars: list[tuple[float, float, float, float, float]]

    @model_validator(mode="after")
    def _one_bar_per_session(self) -> Self:
        if len(self.sessions) != len(self.bars):
            raise ValueError("sessions and bars differ in number")
        return self


class _Disk:
    """One JSON document per ticker in a folder; losing any of them costs a fetch and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, ticker: str) -> _Entry | None:
        """The ticker's entry, or None where there is none; a corrupt document is discarded."""
        path = self._path(ticker)
        try:
            return _entry(ticker, _Document.model_validate_json(path.read_bytes()))
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("cannot read cached prices of %s: %s", ticker, error)
        except (ValidationError, PricesInvalid) as error:
            _log.warning("discarding corrupt cached prices of %s: %s", ticker, type(error).__name__)
            _discard(path)
        return None

    def write(self, entry: _Entry) -> None:
        """Put the entry in place in one step, so that no reader meets half a document."""
        path = self._path(entry.series.ticker)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _replace(path, _document(entry).model_dump_json().encode())
        except OSError as error:
            _log.warning("cannot keep prices of %s on disk: %s", entry.series.ticker, error)

    def _path(self, ticker: str) -> Path:
        return self._folder / f"{quote(ticker, safe='')}.json"


def _replace(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as temporary:
        written = Path(temporary.name)
        try:
            temporary.write(content)
            temporary.flush()
            written.replace(path)
        except OSError:
            _discard(written)
            raise


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _document(entry: _Entry) -> _Document:
    series = entry.series
    return _Document.model_construct(
        ticker=series.ticker,
        currency=series.currency,
        fetched_at=entry.fetched_at,
        whole_at=entry.whole_at,
        dropped=entry.dropped,
        sessions=series.sessions.tolist(),
        bars=[tuple(row) for row in series.bars.tolist()],
    )


def _entry(ticker: str, document: _Document) -> _Entry:
    if document.ticker != ticker:
        raise PricesInvalid(f"the document is of {document.ticker}")
    series, _ = clean(ticker, document.sessions, document.bars, document.currency)
    return _Entry(series, document.dropped, document.fetched_at, document.whole_at)
