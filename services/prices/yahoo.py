"""Daily prices from Yahoo Finance through yfinance, which is imported nowhere else.

yfinance is imported at the first fetch, because it imports pandas. This file fetches; ``cache.CachedSource`` keeps
answers and survives failures.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import numpy as np
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_random_exponential

from errors import AppError, PricesEmpty, PricesRateLimited, PricesUnreachable, TickerNotFound
from schemas.common import TICKER_PATTERN
from services.prices.exchanges import Listing, currency_of
from services.prices.names import Symbol
from services.prices.pandas4 import ignore_pandas_4_warnings
from services.prices.series import COLUMNS, RawBars, validate_ticker

RATE_LIMIT_PAUSE_S = 60  # Yahoo rarely says how long
MOST_FOUND = 10  # symbols of a search
LONGEST_NAME = 100

# what yfinance's parser raises when a payload lacks a key, has a value of another type, or is not JSON
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Answer:
    """The parts of an HTTP answer that yfinance does not return."""

    status: int
    retry_after: str | None


class YahooSource:
    """Fetches a ticker's adjusted history, and turns every failure into a named error.

    yfinance keeps one session and one cookie per process, so build one of these per process. Threads may share it.

    Args:
        cache_dir: where yfinance keeps its cookie; created when missing, unused when not writable.
        timeout_s: of each single HTTP request.
        attempts: how often a fetch is tried, the first time included, if the network or the server fails.
        session: a ``requests`` or ``curl_cffi`` session; by default one that imitates a browser.
        backoff_s: the first pause between attempts is random, up to this long; it doubles.
    """

    name = "yahoo"

    def __init__(
        self, cache_dir: Path, timeout_s: float, attempts: int, session: object | None = None, backoff_s: float = 0.5
    ) -> None:
        self._cache_dir = cache_dir
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._session: Any = session
        self._backoff_s = backoff_s
        self._watch: _Watch | None = None
        self._opening = threading.Lock()

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        """Bars from ``start`` (or one session earlier), by default from the first known, up to the latest.

        The latest may be of an unfinished session; ``history_at`` drops it.

        Raises:
            TickerNotFound: Yahoo does not know the ticker.
            PricesRateLimited: Yahoo limits requests; has the seconds to wait, estimated if Yahoo does not name them.
            PricesEmpty: Yahoo knows the ticker, but has no row for it.
            PricesUnreachable: no answer in time, a refusal, or an unreadable answer.
        """
        validate_ticker(ticker)
        retrying = Retrying(
            retry=retry_if_exception_type(PricesUnreachable),
            stop=stop_after_attempt(self._attempts) | stop_after_delay(self._attempts * self._timeout_s),
            wait=wait_random_exponential(multiplier=self._backoff_s, max=8 * self._backoff_s),
            reraise=True,
        )
        return retrying(self._fetch_once, ticker, start, now)

    def search(self, query: str, now: datetime) -> list[Symbol]:
        """The symbols that Yahoo finds for a name or a symbol, best first; at most ``MOST_FOUND``.

        It is not tried again: it answers while a person types.

        Raises:
            PricesRateLimited, PricesUnreachable: as ``fetch`` does.
        """
        from peewee import PeeweeException
        from yfinance import Search
        from yfinance.exceptions import YFException, YFRateLimitError

        watch = self._open()
        none = {"news_count": 0, "lists_count": 0, "recommended": 0, "include_cb": False}
        try:
            found = Search(query, MOST_FOUND, session=self._session, timeout=self._timeout_s, **none).quotes
            return [symbol for one in found if (symbol := _symbol_found(one)) is not None][:MOST_FOUND]
        except YFRateLimitError:
            raise _rate_limited(watch.last, now) from None
        except (YFException, PeeweeException, OSError, *_MALFORMED) as error:
            _log.warning("the search for a symbol failed: %r", error)
            raise PricesUnreachable("Yahoo Finance did not answer the search for a symbol") from error

    def _fetch_once(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        from peewee import PeeweeException
        from yfinance.exceptions import YFException, YFPricesMissingError, YFRateLimitError

        watch = self._open()
        try:
            raw = _download(ticker, start, self._session, self._timeout_s)
        except YFRateLimitError:
            raise _rate_limited(watch.last, now) from None
        except YFPricesMissingError:
            raise _missing(ticker, watch.last) from None
        except (YFException, PeeweeException, OSError, *_MALFORMED) as error:
            _log.warning("fetching %s failed: %r", ticker, error)
            why = "is unreachable" if isinstance(error, OSError) else "sent an unreadable answer"
            raise PricesUnreachable(f"Yahoo Finance {why}: no prices of {ticker}", ticker=ticker) from error
        if raw.sessions.size == 0:
            raise PricesEmpty(f"Yahoo has no prices of {ticker}", ticker=ticker)
        return raw

    def _open(self) -> "_Watch":
        """Set yfinance up before its first use, once."""
        import yfinance
        from curl_cffi.requests import Session

        with self._opening:
            ignore_pandas_4_warnings()
            if self._watch is None:
                self._session = self._session if self._session is not None else Session(impersonate="chrome")
                yfinance.set_tz_cache_location(str(self._cache_dir))
                yfinance.config.debug.hide_exceptions = False
                self._watch = _Watch(self._session, self._timeout_s)
            return self._watch


class _Watch:
    """Sets one time-out for every request of a session, and keeps each thread's last answer.

    yfinance fetches its cookie with a time-out of its own, 30 seconds, and reports neither the status nor Retry-After;
    only the session sees all of them.
    """

    def __init__(self, session: Any, timeout_s: float) -> None:
        self._send = session.request
        self._timeout_s = timeout_s
        self._seen = threading.local()
        session.request = self._request

    @property
    def last(self) -> _Answer | None:
        """The last answer that this thread received."""
        answer: _Answer | None = getattr(self._seen, "answer", None)
        return answer

    def _request(self, method: str, url: str, **options: Any) -> Any:
        response = self._send(method=method, url=url, **{**options, "timeout": self._timeout_s})
        self._seen.answer = _Answer(response.status_code, response.headers.get("Retry-After"))
        return response


def _download(ticker: str, start: date | None, session: Any, timeout_s: float) -> RawBars:
    """One history by yfinance's chart reader.

    ``yfinance.Ticker`` requests the time zone first: one more request for each new ticker, a dozen for each unknown
    one, and a failure that it never forgets. The chart's own answer names the zone, which the reader uses; the zone
    here only places ``start``, so a day is added for exchanges east of it.
    """
    from yfinance.data import YfData
    from yfinance.scrapers.history import PriceHistory as ChartReader

    reader = ChartReader(YfData(session=session), ticker, tz="UTC", session=session)
    span = {"period": "max"} if start is None else {"start": (start - timedelta(days=1)).isoformat()}
    frame = reader.history(**span, interval="1d", auto_adjust=True, actions=False, keepna=True, timeout=timeout_s)
    metadata = reader.get_history_metadata()
    return RawBars(
        frame.index.tz_localize(None).to_numpy().astype("datetime64[D]"),
        frame[list(COLUMNS)].to_numpy(dtype=np.float64),
        _text(metadata, "currency"),
        _listing(metadata),
    )


def _listing(metadata: Any) -> Listing | None:
    listing = Listing(
        exchange=_text(metadata, "exchangeName"),
        zone=_text(metadata, "exchangeTimezoneName"),
        instrument=_text(metadata, "instrumentType"),
    )
    return None if listing == Listing() else listing


def _text(metadata: Any, key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) else None


def _symbol_found(quote: Any) -> Symbol | None:
    """One result of a search; None for what cannot be a ticker."""
    symbol = _text(quote, "symbol")
    if symbol is None or not TICKER_PATTERN.fullmatch(symbol):
        return None
    name = _text(quote, "longname") or _text(quote, "shortname")
    return Symbol(symbol, _short(name), _short(_text(quote, "exchDisp")), currency_of(symbol))


def _short(text: str | None) -> str | None:
    """Without control characters, and not longer than a line."""
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text or "").split())
    return shown[:LONGEST_NAME] or None


def _rate_limited(answer: _Answer | None, now: datetime) -> PricesRateLimited:
    wait_s = _seconds_to_wait(answer.retry_after if answer else None, now)
    return PricesRateLimited(f"Yahoo limits our requests; try again in {wait_s} s", retry_after_s=wait_s)


def _seconds_to_wait(header: str | None, now: datetime) -> int:
    """Retry-After is a number of seconds or a date."""
    if header is None:
        return RATE_LIMIT_PAUSE_S
    try:
        if header.strip().isdecimal():
            return int(header)
        until = parsedate_to_datetime(header)
    except ValueError:
        return RATE_LIMIT_PAUSE_S
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(1, int((until - now).total_seconds()))


def _missing(ticker: str, answer: _Answer | None) -> AppError:
    """The error for an exception that yfinance raises for three causes; the HTTP status decides which one it was."""
    status = answer.status if answer else 0
    if status == 404:
        return TickerNotFound(f"Yahoo does not know {ticker}", ticker=ticker)
    if status in (200, 400, 422):  # Yahoo answers 400 to a span in which there was no trading
        return PricesEmpty(f"Yahoo has no prices of {ticker}", ticker=ticker)
    return PricesUnreachable(f"Yahoo answered {status} for {ticker}", ticker=ticker)
