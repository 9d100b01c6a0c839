"""When exchanges trade: a ticker's exchange, its next sessions, and what of a history was final at a given moment.

The only file that imports exchange_calendars, and only once a calendar is asked
for: it brings pandas along.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from errors import CalendarTooShort, PricesEmpty, UnknownExchange
from services.prices.pandas4 import ignore_pandas_4_warnings
from services.prices.series import PriceHistory, PriceSeries, Sessions, to_date

SETTLING = timedelta(minutes=20)  # quotes of some exchanges reach the public 15 minutes late

_FIRST_DAY, _LAST_DAY = date(1990, 1, 1), date(2040, 12, 31)
_COVERED_BY_ALL = (date(2026, 1, 5), date(2026, 6, 30))
# Tel Aviv moved from Sunday–Thursday to Monday–Friday that day, and the package cannot build what lies before
_FIRST_DAY_OF = {"XTAE": date(2026, 1, 5)}

_BY_SUFFIX = {
    "SA": "BVMF", "L": "XLON", "IL": "XLON", "DE": "XETR", "F": "XFRA", "HM": "XHAM", "DU": "XDUS", "SG": "XSTU",
    "PA": "XPAR", "AS": "XAMS", "BR": "XBRU", "LS": "XLIS", "MI": "XMIL", "MC": "XMAD", "SW": "XSWX", "ST": "XSTO",
    "HE": "XHEL", "CO": "XCSE", "OL": "XOSL", "IC": "XICE", "IR": "XDUB", "VI": "XWBO", "WA": "XWAR", "PR": "XPRA",
    "BD": "XBUD", "IS": "XIST", "TO": "XTSE", "V": "XTSE", "T": "XTKS", "HK": "XHKG", "SS": "XSHG", "SZ": "XSHG",
    "TW": "XTAI", "TWO": "XTAI", "KS": "XKRX", "KQ": "XKRX", "NS": "XBOM", "BO": "XBOM", "AX": "XASX", "NZ": "XNZE",
    "SI": "XSES", "BK": "XBKK", "JK": "XIDX", "KL": "XKLS", "PS": "XPHS", "TA": "XTAE", "SR": "XSAU", "JO": "XJSE",
    "MX": "XMEX", "BA": "XBUE", "SN": "XSGO",
}  # fmt: skip

_BY_INDEX = {
    "^BVSP": "BVMF", "^FTSE": "XLON", "^FTMC": "XLON", "^GDAXI": "XETR", "^MDAXI": "XETR", "^SDAXI": "XETR",
    "^TECDAX": "XETR", "^STOXX": "XETR", "^STOXX50E": "XETR", "^FCHI": "XPAR", "^AEX": "XAMS", "^BFX": "XBRU",
    "^IBEX": "XMAD", "^SSMI": "XSWX", "^OMX": "XSTO", "^OMXH25": "XHEL", "^OMXC25": "XCSE", "^ATX": "XWBO",
    "^GSPTSE": "XTSE", "^N225": "XTKS", "^HSI": "XHKG", "^HSCE": "XHKG", "^TWII": "XTAI", "^KS11": "XKRX",
    "^KQ11": "XKRX", "^BSESN": "XBOM", "^NSEI": "XBOM", "^NSEBANK": "XBOM", "^AXJO": "XASX", "^AORD": "XASX",
    "^NZ50": "XNZE", "^STI": "XSES", "^JKSE": "XIDX", "^KLSE": "XKLS", "^MXX": "XMEX", "^MERV": "XBUE",
    "^IPSA": "XSGO",
}  # fmt: skip

# a closed list, because New York writes share classes and preferred stock with a hyphen too (BRK-B, BAC-PL)
_CRYPTO = re.compile(r".+-(USD|USDT|USDC|EUR|GBP|JPY|BRL|CAD|AUD|CHF|CNY|INR|KRW|MXN|BTC|ETH)")


Kind = Literal["index", "share", "currency", "crypto", "other"]
"""What a ticker is of, in one of few words."""

# every other calendar is a stock exchange's
KINDS: Mapping[str, Kind] = {"24/5": "currency", "24/7": "crypto", "CMES": "other"}


@dataclass(frozen=True, eq=False)
class _Timetable:
    """Every session an exchange's calendar knows, and when each closes in UTC; both ascending, shape (n,)."""

    exchange: str
    sessions: Sessions
    closes: Sessions


def exchange_of(ticker: str) -> str:
    """The name of the trading calendar ``ticker`` follows.

    Raises:
        UnknownExchange: its suffix is in no table here.

    >>> exchange_of("PETR4.SA"), exchange_of("BRK-B"), exchange_of("BTC-USD")
    ('BVMF', 'XNYS', '24/7')
    """
    symbol = ticker.upper()
    if symbol in _BY_INDEX:
        return _BY_INDEX[symbol]
    if symbol.endswith("=X"):
        return "24/5"
    if symbol.endswith("=F"):
        return "CMES"
    _, dot, suffix = symbol.rpartition(".")
    if dot:
        return _exchange_of_suffix(ticker, suffix)
    return "24/7" if _CRYPTO.fullmatch(symbol) else "XNYS"


def kind_of(ticker: str) -> Kind:
    """One of few words for a ticker, fit for a label.

    Raises:
        UnknownExchange: its suffix is in no table here.

    >>> [kind_of(ticker) for ticker in ("^GSPC", "PETR4.SA", "EURUSD=X", "BTC-USD", "CL=F")]
    ['index', 'share', 'currency', 'crypto', 'other']
    """
    if ticker.startswith("^"):
        return "index"
    return KINDS.get(exchange_of(ticker), "share")


def next_sessions(ticker: str, after: date, count: int) -> tuple[date, ...]:
    """The first ``count`` sessions of the ticker's exchange later than ``after``, holidays left out.

    Raises:
        UnknownExchange: no calendar is known for the ticker.
        CalendarTooShort: it does not reach that far.
    """
    timetable = _timetable(exchange_of(ticker))
    first = int(np.searchsorted(timetable.sessions, np.datetime64(after), side="right"))
    if after < to_date(timetable.sessions[0]) or first + count > timetable.sessions.size:
        raise _out_of_range(timetable, f"{count} sessions after {after}")
    return tuple(to_date(session) for session in timetable.sessions[first : first + count])


def sessions_between(ticker: str, first: date, last: date) -> Sessions:
    """The sessions of the ticker's exchange with first <= session <= last, as far as its calendar reaches.

    Raises:
        UnknownExchange: no calendar is known for the ticker.
    """
    sessions = _timetable(exchange_of(ticker)).sessions
    start = np.searchsorted(sessions, np.datetime64(first), side="left")
    stop = np.searchsorted(sessions, np.datetime64(last), side="right")
    return sessions[start:stop]


def sessions_per_year(ticker: str, first: date, last: date) -> float:
    """Mean number of sessions a year of the ticker's exchange, over the calendar years from first's to last's.

    Where the calendar knows less than 300 days of them, over all that it knows.

    Raises:
        UnknownExchange: no calendar is known for the ticker.
    """
    timetable = _timetable(exchange_of(ticker))
    bounds = to_date(timetable.sessions[0]), to_date(timetable.sessions[-1])
    start, stop = max(date(first.year, 1, 1), bounds[0]), min(date(last.year, 12, 31), bounds[1])
    if (stop - start).days < 300:
        start, stop = bounds
    days = (stop - start).days + 1
    return sessions_between(ticker, start, stop).size / days * 365.2425


def last_completed_session(ticker: str, now: datetime) -> date:
    """The newest session whose close, and a settling delay after it, had passed at ``now`` (time zone aware).

    Crypto trades every day and its session ends at midnight UTC.

    Raises:
        UnknownExchange: no calendar is known for the ticker.
        CalendarTooShort: it does not cover ``now``.
    """
    timetable = _timetable(exchange_of(ticker))
    settled_by = _utc(now) - np.timedelta64(SETTLING)
    completed = int(np.searchsorted(timetable.closes, settled_by, side="right"))
    if not 0 < completed < timetable.sessions.size:
        raise _out_of_range(timetable, f"the last session completed at {now}")
    return to_date(timetable.sessions[completed - 1])


def is_completed(ticker: str, session: date, now: datetime) -> bool:
    """Whether the prices of ``session`` were final at ``now``.

    Days the calendar does not list count as final once a later session is.
    """
    return session <= last_completed_session(ticker, now)


def history_at(
    series: PriceSeries, now: datetime, *, source: str, dropped: Mapping[str, int], stale: bool = False
) -> PriceHistory:
    """What of ``series`` was final at ``now``: the one place that decides what is unfinished and what is stale.

    Stale means that the history does not reach the last completed session of its
    exchange, whatever the reason; ``stale=True`` says so for a reason of the caller's.

    Raises:
        PricesEmpty: no session was final yet.
        UnknownExchange: no calendar is known for the ticker.
        CalendarTooShort: it does not cover ``now``.
    """
    final = last_completed_session(series.ticker, now)
    completed = series.between(None, final)
    if len(completed) == 0:
        raise PricesEmpty(f"no session of {series.ticker} was completed by {now}")
    return PriceHistory(completed, source, stale=stale or completed.last_session < final, dropped=dropped)


def _exchange_of_suffix(ticker: str, suffix: str) -> str:
    if suffix not in _BY_SUFFIX:
        raise UnknownExchange(f"no trading calendar is known for the suffix of {ticker}", ticker=ticker)
    return _BY_SUFFIX[suffix]


def _utc(now: datetime) -> np.datetime64:
    assert now.tzinfo is not None, "now must be time zone aware"  # noqa: S101  our own mistake, not input
    return np.datetime64(now.astimezone(UTC).replace(tzinfo=None), "s")


def _out_of_range(timetable: _Timetable, wanted: str) -> CalendarTooShort:
    first, last = to_date(timetable.sessions[0]), to_date(timetable.sessions[-1])
    return CalendarTooShort(f"the calendar of {timetable.exchange} knows {first} to {last}, asked for {wanted}")


@lru_cache(maxsize=64)
def _timetable(exchange: str) -> _Timetable:
    """Built once per exchange: building takes about 0.1 s whatever the number of years (Seoul 2 s)."""
    calendar = _calendar(exchange)
    closes = calendar.closes.dt.tz_convert(None).to_numpy()
    return _Timetable(
        exchange, calendar.closes.index.to_numpy().astype("datetime64[D]"), closes.astype("datetime64[s]")
    )


def _calendar(exchange: str) -> Any:
    from exchange_calendars import get_calendar

    ignore_pandas_4_warnings()
    start = _FIRST_DAY_OF.get(exchange, _FIRST_DAY)
    try:
        return get_calendar(exchange, start=start, end=_LAST_DAY)
    except ValueError:  # holidays of some exchanges are announced year by year; only an instance tells the bounds
        narrow = get_calendar(exchange, start=_COVERED_BY_ALL[0], end=_COVERED_BY_ALL[1])
    earliest, latest = narrow.bound_min(), narrow.bound_max()
    return get_calendar(
        exchange,
        start=max(start, earliest.date()) if earliest is not None else start,
        end=min(_LAST_DAY, latest.date()) if latest is not None else _LAST_DAY,
    )
