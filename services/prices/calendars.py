"""Trading calendars: the next sessions of an exchange, and which part of a history was final at a given moment.

The only file that imports exchange_calendars, at the first use of a calendar, because it imports pandas. Calendars are
named as ``exchanges.exchange_of`` returns them.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from at_once import may_take_long
from errors import PricesEmpty
from services.prices.pandas4 import ignore_pandas_4_warnings
from services.prices.series import FLAT_TOLERANCE, Defects, PriceHistory, PriceSeries, Sessions, to_date

SETTLING = timedelta(minutes=20)  # quotes of some exchanges reach the public 15 minutes late
UNLISTED_SETTLING = timedelta(hours=4)  # after the usual close: an unlisted session may be an evening one (Muhurat)

_FIRST_DAY, _LAST_DAY = date(1990, 1, 1), date(2040, 12, 31)
_FIRST_ESTIMATED, _LAST_ESTIMATED = date(1885, 1, 1), date(2100, 12, 31)
_COVERED_BY_ALL = (date(2026, 1, 5), date(2026, 6, 30))
# Tel Aviv moved from Sunday–Thursday to Monday–Friday that day, and the package cannot build what lies before
_FIRST_DAY_OF = {"XTAE": date(2026, 1, 5)}
_EARLIER_WEEK = {"XTAE": "1111001"}
HOLIDAY_YEARS = 10  # a day of the year that was a holiday whenever it fell on a weekday of so many years is a fixed one


@dataclass(frozen=True, eq=False)
class _Timetable:
    """Every session of an exchange, and when each closes in UTC; both ascending, shape (n,).

    Attributes:
        exchange: name of the calendar.
        sessions: days, datetime64[D].
        closes: datetime64[s], UTC.
        known: first and last day that the calendar covers; sessions beyond are estimated.
        zone: time zone of the exchange.
        close_time: the usual close in that zone; midnight means the end of the day.
    """

    exchange: str
    sessions: Sessions
    closes: Sessions
    known: tuple[date, date]
    zone: ZoneInfo
    close_time: time


class _Finality(NamedTuple):
    """The last days whose prices were final at an exchange at a given moment.

    Attributes:
        session: the last completed session of the calendar.
        unlisted: the last day on which a session that the calendar does not list is final.
        today: the date at the exchange.
    """

    session: date
    unlisted: date
    today: date


def next_sessions(exchange: str, after: date, count: int) -> tuple[date, ...]:
    """The first ``count`` sessions later than ``after``, holidays left out.

    Past the end of the calendar they are estimated from the exchange's week and fixed holidays, see ``is_estimated``.
    """
    timetable = _timetable(exchange)
    first = int(np.searchsorted(timetable.sessions, np.datetime64(after), side="right"))
    return tuple(timetable.sessions[first : first + count].tolist())


def is_estimated(exchange: str, session: date) -> bool:
    """Whether the exchange's calendar does not reach ``session``, so that it may turn out to be a holiday."""
    known = _timetable(exchange).known
    return not known[0] <= session <= known[1]


def last_known_day(exchange: str) -> date:
    """The last day that the exchange's calendar covers."""
    return _timetable(exchange).known[1]


def sessions_between(exchange: str, first: date, last: date) -> Sessions:
    """The sessions with first <= session <= last that the exchange's calendar covers."""
    timetable = _timetable(exchange)
    start = np.searchsorted(timetable.sessions, np.datetime64(max(first, timetable.known[0])), side="left")
    stop = np.searchsorted(timetable.sessions, np.datetime64(min(last, timetable.known[1])), side="right")
    return timetable.sessions[start:stop]


def sessions_per_year(exchange: str, first: date, last: date) -> float:
    """Mean number of sessions a year, over the calendar years from ``first`` to ``last``.

    If the calendar covers fewer than 300 days of these years, the mean is over the whole calendar.
    """
    known = _timetable(exchange).known
    start, stop = max(date(first.year, 1, 1), known[0]), min(date(last.year, 12, 31), known[1])
    if (stop - start).days < 300:
        start, stop = known
    days = (stop - start).days + 1
    return sessions_between(exchange, start, stop).size / days * 365.2425


def last_completed_session(exchange: str, now: datetime) -> date:
    """The newest session whose close, and a settling delay after it, had passed at ``now`` (time zone aware).

    Crypto trades every day and its session ends at midnight UTC.
    """
    assert now.tzinfo is not None, "now must be time zone aware"  # noqa: S101 - our own mistake, not input
    timetable = _timetable(exchange)
    settled_by = (now - SETTLING).astimezone(UTC).replace(tzinfo=None)
    completed = int(np.searchsorted(timetable.closes, np.datetime64(settled_by, "s"), side="right"))
    return to_date(timetable.sessions[max(completed, 1) - 1])


def is_completed(exchange: str, session: date, now: datetime) -> bool:
    """Whether the prices of ``session`` were final at ``now``.

    Days that the calendar does not list count as final once a later session is.
    """
    return session <= last_completed_session(exchange, now)


def local_date(exchange: str, moment: datetime) -> date:
    """The date at the exchange at a moment (time zone aware)."""
    return moment.astimezone(_timetable(exchange).zone).date()


def last_final_day(exchange: str, now: datetime) -> date:
    """The last day whose rows were final at ``now``, whether or not the calendar lists a session on it."""
    finality = _finality(exchange, now)
    return max(finality.session, finality.unlisted)


def history_at(
    series: PriceSeries, now: datetime, *, source: str, defects: Defects, stale: bool = False
) -> PriceHistory:
    """The part of ``series`` that was final at ``now``; all sources drop unfinished sessions with it.

    Ghost rows are dropped here too: a flat bar without volume at the previous close, on a day that the calendar does
    not list. A row with volume or a range on such a day is a session, final some hours after the usual close.
    Stale means that the history does not reach the last completed session of its exchange, or that the caller says so
    with ``stale=True``. Until another row is final, the answer is the same object.

    Raises:
        PricesEmpty: no session was final yet.
    """
    minute = now.replace(second=0, microsecond=0)  # sessions close, and days begin, at whole minutes
    return _final_part(series, source, defects, stale, _finality(series.exchange, minute))


@lru_cache(maxsize=64)
def _finality(exchange: str, now: datetime) -> _Finality:
    timetable = _timetable(exchange)
    settled = (now - UNLISTED_SETTLING).astimezone(timetable.zone)
    closed = timetable.close_time != time(0) and settled.time() >= timetable.close_time
    unlisted = settled.date() if closed else settled.date() - timedelta(days=1)
    return _Finality(last_completed_session(exchange, now), unlisted, local_date(exchange, now))


@lru_cache(maxsize=64)
def _final_part(series: PriceSeries, source: str, defects: Defects, stale: bool, finality: _Finality) -> PriceHistory:
    calendar = _timetable(series.exchange).sessions
    places = np.searchsorted(calendar, series.sessions)
    listed = calendar[np.minimum(places, calendar.size - 1)] == series.sessions
    ghosts = ~listed if listed.all() else ~listed & _repeats_previous_close(series)
    future = series.sessions > np.datetime64(finality.today)
    unlisted_final = ~listed & (series.sessions <= np.datetime64(finality.unlisted))
    completed = (series.sessions <= np.datetime64(finality.session)) | unlisted_final
    found = defects.with_dropped("ghost", series.sessions[ghosts & completed]).with_dropped(
        "future", series.sessions[future]
    )
    kept = series.where(completed & ~ghosts)
    if len(kept) == 0:
        raise PricesEmpty(f"no session of {series.ticker} was completed by {finality.today}")
    return PriceHistory(kept, source, stale=stale or kept.last_session < finality.session, defects=found)


def _repeats_previous_close(series: PriceSeries) -> NDArray[np.bool_]:
    """Rows without volume whose known prices all equal the close before."""
    prices, volume = series.bars[:, :4], series.bars[:, 4]
    before = np.concatenate([[np.nan], series.close[:-1]])
    apart = np.abs(prices / before[:, None] - 1)
    repeats: NDArray[np.bool_] = (volume == 0) & ~np.isnan(before) & ~(apart > FLAT_TOLERANCE).any(axis=1)
    return repeats


@lru_cache(maxsize=64)
def _timetable(exchange: str) -> _Timetable:
    """Building takes about 0.1 s whatever the number of years (Seoul 1 s)."""
    may_take_long()
    calendar = _calendar(exchange)
    sessions = calendar.closes.index.to_numpy().astype("datetime64[D]")
    known = _Timetable(
        exchange,
        sessions,
        calendar.closes.dt.tz_convert(None).to_numpy().astype("datetime64[s]"),
        known=(_known_from(exchange, calendar, sessions), _known_until(calendar, sessions)),
        zone=calendar.tz,
        close_time=calendar.close_times[-1][1],
    )
    return _extended(_with_special_weeks(known, calendar), calendar.weekmask)


def _calendar(exchange: str) -> Any:
    from exchange_calendars import get_calendar

    ignore_pandas_4_warnings()
    _repair_orthodox_easter()
    _keep_korean_years()
    start = _FIRST_DAY_OF.get(exchange, _FIRST_DAY)
    try:
        return get_calendar(exchange, start=start, end=_LAST_DAY)
    except ValueError:  # holidays of some exchanges are announced year by year; only an instance has the bounds
        narrow = get_calendar(exchange, start=_COVERED_BY_ALL[0], end=_COVERED_BY_ALL[1])
    earliest, latest = narrow.bound_min(), narrow.bound_max()
    return get_calendar(
        exchange,
        start=max(start, earliest.date()) if earliest is not None else start,
        end=min(_LAST_DAY, latest.date()) if latest is not None else _LAST_DAY,
    )


def _repair_orthodox_easter() -> None:
    """Let pandas 3 add the offset: it calls ``_add_datetime``, which exchange_calendars 4.13 still names ``_apply``."""
    from exchange_calendars.pandas_extensions.offsets import OrthodoxEaster

    if "_add_datetime" not in vars(OrthodoxEaster):
        OrthodoxEaster._add_datetime = OrthodoxEaster._apply  # noqa: SLF001 - both names are pandas's


class _OnePerThread(threading.local):
    """One object for each thread, in place of one for each call."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._one = make()

    def __call__(self) -> Any:
        return self._one


def _keep_korean_years() -> None:
    """Convert Korean dates with an object that remembers the days before each year.

    exchange_calendars makes a new one for each date, which counts them from the year 1000 on: half of the time that
    Seoul takes.
    """
    from exchange_calendars.pandas_extensions import korean_holiday

    if not isinstance(korean_holiday.KoreanLunarCalendar, _OnePerThread):
        korean_holiday.KoreanLunarCalendar = _OnePerThread(korean_holiday.KoreanLunarCalendar)


def _known_from(exchange: str, calendar: Any, sessions: Sessions) -> date:
    earliest = calendar.bound_min()
    wanted = _FIRST_DAY_OF.get(exchange, _FIRST_DAY)
    first = wanted if earliest is None else max(wanted, earliest.date())
    return min(first, to_date(sessions[0]))


def _known_until(calendar: Any, sessions: Sessions) -> date:
    latest = calendar.bound_max()
    last = _LAST_DAY if latest is None else min(_LAST_DAY, latest.date())
    return max(last, to_date(sessions[-1]))


def _with_special_weeks(timetable: _Timetable, calendar: Any) -> _Timetable:
    """Adds the sessions of weeks with other trading days than usual (Saturdays in Seoul until 1998).

    exchange_calendars declares them in ``special_weekmasks`` and loses them with pandas 3, whose ``date_range`` goes
    past its offset class; what it does keep of those weeks stays.
    """
    weeks = getattr(calendar, "special_weekmasks", ())
    holidays = _declared_holidays(calendar, *timetable.known) if weeks else timetable.sessions[:0]
    missing = [timetable.sessions]
    for start, end, mask in weeks:
        first = max(timetable.known[0], start.date() if start is not None else timetable.known[0])
        last = min(timetable.known[1], end.date() if end is not None else timetable.known[1])
        days = np.arange(np.datetime64(first), np.datetime64(last) + 1)
        missing.append(days[np.is_busday(days, weekmask=mask, holidays=holidays)])
    sessions = np.unique(np.concatenate(missing))
    closes = _usual_closes(timetable, sessions)
    closes[np.searchsorted(sessions, timetable.sessions)] = timetable.closes
    return replace(timetable, sessions=sessions, closes=closes)


def _declared_holidays(calendar: Any, first: date, last: date) -> Sessions:
    from pandas import DatetimeIndex, Timestamp

    regular = calendar.regular_holidays
    listed = [] if regular is None else [regular.holidays(Timestamp(first), Timestamp(last))]
    every = [DatetimeIndex(calendar.adhoc_holidays), *listed]
    days = [index.tz_localize(None).to_numpy().astype("datetime64[D]") for index in every]
    return np.concatenate(days)


def _extended(timetable: _Timetable, weekmask: str) -> _Timetable:
    """The timetable with estimated sessions before and after what the calendar knows."""
    fixed = _fixed_holidays(timetable, weekmask)
    known_first, known_last = timetable.known
    earlier_week = _EARLIER_WEEK.get(timetable.exchange, weekmask)
    earlier = _weekdays(_FIRST_ESTIMATED, known_first - timedelta(days=1), earlier_week)
    later = _weekdays(known_last + timedelta(days=1), _LAST_ESTIMATED, weekmask)
    before = earlier[~np.isin(_days_of_year(earlier), fixed)]
    after = later[~np.isin(_days_of_year(later), fixed)]
    return replace(
        timetable,
        sessions=np.concatenate([before, timetable.sessions, after]),
        closes=np.concatenate([_usual_closes(timetable, before), timetable.closes, _usual_closes(timetable, after)]),
    )


def _fixed_holidays(timetable: _Timetable, weekmask: str) -> NDArray[np.int64]:
    """Days of the year that were never a session when they fell on a trading weekday of the last known years."""
    first = max(timetable.known[0], timetable.known[1].replace(year=timetable.known[1].year - HOLIDAY_YEARS, day=28))
    weekdays = _weekdays(first, timetable.known[1], weekmask)
    closed = ~np.isin(weekdays, timetable.sessions)
    names, place = np.unique(_days_of_year(weekdays), return_inverse=True)
    n_closed, n = np.bincount(place, weights=closed), np.bincount(place)
    always: NDArray[np.int64] = names[(n_closed == n) & (n > 1)]
    return always


def _weekdays(first: date, last: date, weekmask: str) -> Sessions:
    days = np.arange(np.datetime64(first), np.datetime64(last) + 1)
    return days[np.is_busday(days, weekmask=weekmask)]


def _days_of_year(days: Sessions) -> NDArray[np.int64]:
    """Month and day as one number: 1225 for Christmas."""
    months = days.astype("datetime64[M]")
    numbers: NDArray[np.int64] = (months.astype(np.int64) % 12 + 1) * 100 + (days - months).astype(np.int64) + 1
    return numbers


def _usual_closes(timetable: _Timetable, sessions: Sessions) -> Sessions:
    """UTC closes at the usual local time; the zone's summer time is looked up once a month."""
    months, place = np.unique(sessions.astype("datetime64[M]"), return_inverse=True)
    offsets = np.array(list(_offsets(timetable, months)), dtype="timedelta64[s]")
    usual = timetable.close_time
    since_midnight = timedelta(hours=usual.hour, minutes=usual.minute) or timedelta(days=1)
    closes: Sessions = sessions.astype("datetime64[s]") + np.timedelta64(since_midnight) - offsets[place]
    return closes.astype("datetime64[s]")


def _offsets(timetable: _Timetable, months: Sessions) -> Iterator[timedelta]:
    for month in months:
        noon = datetime.combine(to_date(month), time(12), timetable.zone) + timedelta(days=14)
        yield noon.utcoffset() or timedelta(0)
