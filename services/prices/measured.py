"""Prices under observation: what fetching them takes, and how fresh what is served is."""

import threading
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Literal

from cachetools import LRUCache

from errors import AppError, UpstreamUnavailable
from services.prices.cache import Fetcher
from services.prices.series import PriceHistory, PriceSource, RawBars
from telemetry.measures import PRICE_AGE, PRICE_FETCH_SECONDS, PRICE_FETCHES, PRICES_SERVED, Meter

PriceIssue = Literal["prices_stale", "prices_unavailable"]

WATCHED = 256  # tickers
FORGOTTEN_AFTER = timedelta(minutes=15)  # a ticker nobody asks for any more ails nobody


class InstrumentedFetcher:
    """Fetches what ``fetcher`` fetches, and tells the meter how that went."""

    def __init__(self, fetcher: Fetcher, meter: Meter) -> None:
        self.name = fetcher.name
        self._fetcher = fetcher
        self._meter = meter

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        """Rows from ``start``; see ``Fetcher``."""
        started, outcome = time.perf_counter(), AppError.code
        try:
            raw = self._fetcher.fetch(ticker, start, now)
            outcome = "ok"
        except AppError as error:
            outcome = error.code
            raise
        finally:
            self._meter.record(PRICE_FETCHES, source=self.name, outcome=outcome)
            self._meter.record(PRICE_FETCH_SECONDS, time.perf_counter() - started, source=self.name)
        return raw


class PriceFreshness:
    """Remembers which tickers were lately served stale, or could not be had at all."""

    def __init__(self) -> None:
        self._issues: LRUCache[str, tuple[PriceIssue, datetime]] = LRUCache(WATCHED)
        self._lock = threading.Lock()

    def record(self, ticker: str, issue: PriceIssue | None, now: datetime) -> None:
        """Take note of how a ticker was served just now."""
        with self._lock:
            if issue is None:
                self._issues.pop(ticker, None)
            else:
                self._issues[ticker] = (issue, now)

    def tickers_with(self, issue: PriceIssue, now: datetime) -> tuple[str, ...]:
        """The tickers that ailed so when they were last asked for, which was not long ago."""
        with self._lock:
            found = ((ticker, at) for ticker, (what, at) in self._issues.items() if what == issue)
            return tuple(sorted(ticker for ticker, at in found if now - at < FORGOTTEN_AFTER))


class InstrumentedPriceSource:
    """Answers what ``source`` answers, and lets watch and meter know how fresh it was."""

    def __init__(self, source: PriceSource, watch: PriceFreshness, meter: Meter) -> None:
        self._source = source
        self._watch = watch
        self._meter = meter

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        """The completed sessions of ``ticker``; see ``PriceSource``."""
        try:
            history = self._source.history(ticker, now, recent)
        except UpstreamUnavailable:
            self._watch.record(ticker, "prices_unavailable", now)
            raise
        self._watch.record(ticker, "prices_stale" if history.stale else None, now)
        self._meter.record(PRICES_SERVED, freshness="stale" if history.stale else "fresh")
        self._meter.record(PRICE_AGE, age_s(history, now))
        return history


def age_s(history: PriceHistory, now: datetime) -> float:
    """Seconds since the day of the newest session was over in UTC; 0 while it is not."""
    over_at = datetime.combine(history.as_of + timedelta(days=1), time_of_day.min, tzinfo=UTC)
    return max(0.0, (now - over_at).total_seconds())
