"""A Yahoo Finance on loopback: the chart protocol and the cookie dance, enough for the real yfinance client."""

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from datetime import time as clock_time
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

import requests
from requests.adapters import HTTPAdapter

from tests.processes import QuietHandler, serving

CHART = "/v8/finance/chart/"
SEARCH = "/v1/finance/search"


@dataclass
class Quotes:
    """What the server knows of one symbol: raw bars, adjusted closes, events, and where it trades.

    Attributes:
        open: by default the closes; likewise high is 1 % above and low 1 % below them.
        volume: by default 1,000 shares each session.
        exchange: code of the exchange; by default the one of the zone. "" means null.
        instrument: by default what the symbol looks like. "" means null.
    """

    sessions: Sequence[date]
    close: Sequence[float | None]
    adjclose: Sequence[float | None] | None = None
    open: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    low: Sequence[float | None] | None = None
    volume: Sequence[float | None] | None = None
    dividends: dict[date, float] = field(default_factory=dict)
    splits: dict[date, tuple[int, int]] = field(default_factory=dict)
    currency: str | None = "USD"
    zone: str = "America/New_York"
    exchange: str | None = None
    instrument: str | None = None

    def opening(self, session: date) -> int:
        """The exchange's opening as Yahoo stamps a daily bar, seconds since the epoch."""
        return int(datetime.combine(session, clock_time(9, 30), ZoneInfo(self.zone)).timestamp())


@dataclass(frozen=True)
class Request:
    """One chart request as it arrived."""

    symbol: str
    params: dict[str, str]

    @property
    def first_day(self) -> date:
        """The day period1 stands for."""
        return datetime.fromtimestamp(int(self.params["period1"]), ZoneInfo("UTC")).date()


@dataclass(frozen=True)
class Reply:
    """An answer to give instead of the true one."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


class YahooServer:
    """Quotes by symbol, the chart requests seen, and how to fail."""

    def __init__(self) -> None:
        self.quotes: dict[str, Quotes] = {}
        self.chart_requests: list[Request] = []
        self.other_requests: list[str] = []
        self.next_replies: deque[Reply] = deque()
        self.always: Reply | None = None
        self.delay_s = 0.0
        self.side_delay_s = 0.0  # of everything but charts
        self.searches: dict[str, list[dict[str, Any]]] = {}  # query -> quotes
        self.side_replies: dict[str, Reply] = {}  # path -> what to answer instead
        self.port = 0

    def session(self) -> requests.Session:
        """A session whose every request ends here, whatever host it names."""
        session = requests.Session()
        session.trust_env = False
        session.mount("https://", ToLoopback(self.port))
        session.mount("http://", ToLoopback(self.port))
        return session

    def answer(self, path: str, params: dict[str, str]) -> Reply:
        """What to say to a GET."""
        if not path.startswith(CHART):
            self.other_requests.append(path)
            if path == SEARCH and path not in self.side_replies:
                return Reply(200, json.dumps({"quotes": self.searches.get(params["q"], [])}))
            return replace(self.side_replies.get(path) or _side_answer(path), delay_s=self.side_delay_s)
        symbol = unquote(path.removeprefix(CHART))
        self.chart_requests.append(Request(symbol, params))
        if self.always is not None:
            return self.always
        if self.next_replies:
            return self.next_replies.popleft()
        if symbol not in self.quotes:
            return Reply(404, json.dumps(error_payload("Not Found", "No data found, symbol may be delisted")))
        payload = chart_payload(symbol, self.quotes[symbol], int(params["period1"]), int(params["period2"]))
        return Reply(200, json.dumps(payload), delay_s=self.delay_s)


@contextmanager
def running_yahoo() -> Iterator[YahooServer]:
    """A server on a free port of 127.0.0.1, stopped at the end."""
    yahoo = YahooServer()

    class Handler(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - named by http.server
            address = urlsplit(self.path)
            reply = yahoo.answer(address.path, dict(parse_qsl(address.query)))
            time.sleep(reply.delay_s)
            try:
                self._send(reply)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client timed out, which is what some tests want

        def _send(self, reply: Reply) -> None:
            body = reply.body.encode()
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yahoo.port = urlsplit(url).port or 0
        yield yahoo


def chart_payload(symbol: str, quotes: Quotes, period1: int, period2: int) -> dict[str, Any]:
    """The chart document for the bars with period1 <= opening < period2."""
    rows = [row for row, day in enumerate(quotes.sessions) if period1 <= quotes.opening(day) < period2]
    if not rows:
        return error_payload("Bad Request", f"Data doesn't exist for startDate = {period1}, endDate = {period2}")
    adjusted = quotes.close if quotes.adjclose is None else quotes.adjclose
    result = {
        "meta": _meta(symbol, quotes),
        "timestamp": [quotes.opening(quotes.sessions[row]) for row in rows],
        "indicators": {"quote": [_quote(quotes, rows)], "adjclose": [{"adjclose": [adjusted[row] for row in rows]}]},
    }
    if quotes.dividends or quotes.splits:
        result["events"] = _events(quotes)
    return {"chart": {"result": [result], "error": None}}


def error_payload(code: str, description: str) -> dict[str, Any]:
    """How Yahoo says that there is no chart."""
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


def _meta(symbol: str, quotes: Quotes) -> dict[str, Any]:
    newest = quotes.opening(quotes.sessions[-1])
    period = {"timezone": "EST", "start": newest, "end": newest + 23_400, "gmtoffset": -18_000}
    instrument = _instrument(symbol) if quotes.instrument is None else quotes.instrument
    exchange = _exchange(symbol, instrument, quotes.zone) if quotes.exchange is None else quotes.exchange
    return {
        "symbol": symbol,
        "currency": quotes.currency,
        "exchangeName": exchange or None,
        "instrumentType": instrument or None,
        "firstTradeDate": quotes.opening(quotes.sessions[0]),
        "regularMarketTime": newest,
        "gmtoffset": -18_000,
        "timezone": "EST",
        "exchangeTimezoneName": quotes.zone,
        "regularMarketPrice": quotes.close[-1],
        "priceHint": 2,
        "currentTradingPeriod": {"pre": period, "regular": period, "post": period},
        "dataGranularity": "1d",
        "range": "",
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }


def _instrument(symbol: str) -> str:
    if symbol.endswith("=X"):
        return "CURRENCY"
    if symbol.endswith("=F"):
        return "FUTURE"
    if symbol.endswith("-USD"):
        return "CRYPTOCURRENCY"
    return "INDEX" if symbol.startswith("^") else "EQUITY"


def _exchange(symbol: str, instrument: str, zone: str) -> str:
    by_instrument = {"CURRENCY": "CCY", "FUTURE": "CME", "CRYPTOCURRENCY": "CCC"}
    by_index = {"^GSPC": "SNP", "^DJI": "DJI", "^IXIC": "NIM", "^BVSP": "SAO"}
    return by_instrument.get(instrument) or by_index.get(symbol) or _EXCHANGE_OF_ZONE.get(zone, "")


_EXCHANGE_OF_ZONE = {
    "America/New_York": "NMS",
    "America/Sao_Paulo": "SAO",
    "Europe/London": "LSE",
    "Asia/Kolkata": "NSI",
    "Asia/Tokyo": "JPX",
    "Australia/Sydney": "ASX",
}


def _quote(quotes: Quotes, rows: Sequence[int]) -> dict[str, list[float | None]]:
    def given_or(given: Sequence[float | None] | None, of_close: Callable[[float], float]) -> list[float | None]:
        if given is not None:
            return [given[row] for row in rows]
        closes = (quotes.close[row] for row in rows)
        return [None if close is None else of_close(close) for close in closes]

    return {
        "open": given_or(quotes.open, lambda close: close),
        "high": given_or(quotes.high, lambda close: close * 1.01),
        "low": given_or(quotes.low, lambda close: close * 0.99),
        "close": given_or(quotes.close, lambda close: close),
        "volume": given_or(quotes.volume, lambda close: 1_000),
    }


def _events(quotes: Quotes) -> dict[str, Any]:
    dividends, splits = {}, {}
    for day, amount in quotes.dividends.items():
        stamp = quotes.opening(day)
        dividends[str(stamp)] = {"amount": amount, "date": stamp}
    for day, (new, old) in quotes.splits.items():
        stamp = quotes.opening(day)
        splits[str(stamp)] = {"date": stamp, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
    return {"dividends": dividends, "splits": splits}


def _side_answer(path: str) -> Reply:
    if path.endswith("/getcrumb"):
        return Reply(200, "a-crumb")
    if path.startswith(("/v10/finance/quoteSummary", "/v7/finance/quote", "/ws/fundamentals-timeseries")):
        return Reply(404, "{}")
    return Reply(200, "<html></html>")  # the page that sets the cookie, and the consent pages


class ToLoopback(HTTPAdapter):
    """Sends every request to 127.0.0.1 in plain HTTP, path and query unchanged."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        address = urlsplit(request.url or "")
        request.url = f"http://127.0.0.1:{self._port}{address.path or '/'}?{address.query}"
        return super().send(request, *args, **options)
