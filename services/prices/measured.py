"""Metrics of prices: fetches and their duration, and the freshness of served histories."""

import threading
import time
from collections.abc import Container
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Literal

from cachetools import LRUCache

from errors import AppError, TickerNotFound, UnknownExchange, UpstreamUnavailable
from services.prices.cache import Fetcher
from services.prices.series import PriceHistory, PriceSource, RawBars
from services.prices.suggestions import with_suggestion
from telemetry.measures import PRICE_AGE, PRICE_FETCH_SECONDS, PRICE_FETCHES, PRICES_SERVED, Meter

PriceIssue = Literal["prices_stale", "prices_unavailable"]

WATCHED = 256  # tickers
FORGOTTEN_AFTER = timedelta(minutes=15)  # since the last request of a ticker


class InstrumentedFetcher:
    def __init__(self, fetcher: Fetcher, meter: Meter) -> None:
        self.name = fetcher.name
        self._fetcher = fetcher
        self._meter = meter

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
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


class InstrumentedPriceSource:
    """Delegates to ``source``, measures what it serves, and adds ``did_you_mean`` to errors for unknown tickers.

    It remembers which tickers were served stale, or were unavailable, at their last request.

    Args:
        source: where prices come from.
        meter: counts what is served.
        among: the only tickers to suggest; None for any.
    """

    def __init__(self, source: PriceSource, meter: Meter, among: Container[str] | None = None) -> None:
        self._source = source
        self._meter = meter
        self._among = among
        self._issues: LRUCache[str, tuple[PriceIssue, datetime]] = LRUCache(WATCHED)
        self._lock = threading.Lock()

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        try:
            history = self._source.history(ticker, now, recent)
        except UpstreamUnavailable:
            with self._lock:
                self._issues[ticker] = "prices_unavailable", now
            raise
        except (TickerNotFound, UnknownExchange) as error:
            raise with_suggestion(error, ticker, self._among) from None
        with self._lock:
            if history.stale:
                self._issues[ticker] = "prices_stale", now
            else:
                self._issues.pop(ticker, None)
        self._meter.record(PRICES_SERVED, freshness="stale" if history.stale else "fresh")
        day_ended_at = datetime.combine(history.as_of + timedelta(days=1), time_of_day.min, tzinfo=UTC)
        self._meter.record(PRICE_AGE, max(0.0, (now - day_ended_at).total_seconds()))
        return history

    def tickers_with(self, issue: PriceIssue, now: datetime) -> tuple[str, ...]:
        """The tickers that had this issue at a request of the last ``FORGOTTEN_AFTER``."""
        with self._lock:
            found = ((ticker, at) for ticker, (what, at) in self._issues.items() if what == issue)
            return tuple(sorted(ticker for ticker, at in found if now - at < FORGOTTEN_AFTER))
