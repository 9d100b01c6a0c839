from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import PricesEmpty
from services.prices import calendars, exchanges
from services.prices.calendars import (
    _calendar,
    _keep_korean_years,
    _timetable,
    history_at,
    is_completed,
    is_estimated,
    last_completed_session,
    last_final_day,
    last_known_day,
    local_date,
    next_sessions,
    sessions_between,
    sessions_per_year,
)
from services.prices.cleaning import clean
from services.prices.series import Defects, PriceHistory, PriceSeries

CALENDARS = sorted(
    {
        *exchanges._BY_SUFFIX.values(),
        *exchanges._BY_CODE.values(),
        *exchanges._BY_INSTRUMENT.values(),
        *exchanges._BY_ZONE.values(),
        *exchanges._BY_INDEX.values(),
        exchanges.NEW_YORK,
    }
)

# one session of a week with other trading days than usual, for each calendar that declares such weeks
SPECIAL_SESSIONS = {
    "XBOM": (date(2024, 1, 20), date(2025, 2, 1)),
    "XKRX": (date(1995, 1, 7), date(1998, 12, 5)),
    "XMOS": (date(2000, 5, 6), date(2001, 12, 29)),
    "XTAE": (date(2025, 12, 28), date(2026, 1, 4)),
}


def series_of(ticker: str, *sessions: date) -> PriceSeries:
    series, _ = clean(ticker, sessions, np.full((len(sessions), 5), 10.0))
    return series


def known_at(series: PriceSeries, now: datetime) -> PriceHistory:
    return history_at(series, now, source="test", defects=Defects())


def is_session(exchange: str, day: date) -> bool:
    return next_sessions(exchange, day - timedelta(days=1), 1) == (day,)


def declares_special_weeks(exchange: str) -> bool:
    from exchange_calendars.calendar_utils import _default_calendar_factories

    return hasattr(_default_calendar_factories[exchange], "special_weekmasks")


@pytest.mark.parametrize("exchange", CALENDARS)
def test_every_calendar_ascends_and_agrees_with_the_package(exchange: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = _calendar(exchange)
    monkeypatch.setattr(calendars, "_calendar", {exchange: package}.__getitem__)  # to build it is most of the work

    timetable = _timetable(exchange)

    assert (np.diff(timetable.sessions) > np.timedelta64(0, "D")).all()
    assert (np.diff(timetable.closes) > np.timedelta64(0, "s")).all()
    assert timetable.known[0] <= date(2026, 1, 5)
    assert timetable.known[1] >= date(2026, 12, 31)
    if not declares_special_weeks(exchange):
        first, last = package.first_session.date(), package.last_session.date()
        own = package.sessions.to_numpy().astype("datetime64[D]")
        assert np.array_equal(sessions_between(exchange, first, last), own)


def test_every_calendar_with_special_weeks_has_their_sessions() -> None:
    from exchange_calendars.calendar_utils import _default_calendar_factories

    declared = {exchange for exchange in _default_calendar_factories if declares_special_weeks(exchange)}

    assert declared == SPECIAL_SESSIONS.keys()  # a new one needs a session here
    for exchange, days in SPECIAL_SESSIONS.items():
        assert [day for day in days if not is_session(exchange, day)] == [], exchange


def test_korean_dates_are_converted_by_one_object_as_by_many() -> None:
    from exchange_calendars.pandas_extensions import korean_holiday

    _keep_korean_years()
    kept = korean_holiday.KoreanLunarCalendar
    many = type(kept())
    dates = [(year, month, 15) for year in range(1990, 2041) for month in (1, 4, 8)]

    def converted(one: Any, day: tuple[int, int, int]) -> tuple[int, int, int]:
        assert one.setLunarDate(*day, False)
        return one.solarYear, one.solarMonth, one.solarDay

    assert kept() is kept()
    assert [converted(kept(), day) for day in dates] == [converted(many(), day) for day in dates]


def test_seoul_traded_on_saturdays_until_1998() -> None:
    days = sessions_between("XKRX", date(1995, 1, 1), date(2026, 12, 31)).tolist()

    assert sum(day.weekday() == 5 for day in days) == 196
    assert sum(day.weekday() == 6 for day in days) == 0
    assert max(day for day in days if day.weekday() == 5) < date(1999, 1, 1)


@pytest.mark.parametrize(
    ("exchange", "after", "expected"),
    [
        ("XNYS", "2024-01-12", "2024-01-16 2024-01-17"),  # a weekend and Martin Luther King Day
        ("BVMF", "2024-02-09", "2024-02-14 2024-02-15"),  # carnival
        ("ASEX", "2026-04-08", "2026-04-09 2026-04-14"),  # Orthodox Good Friday
        ("XBSE", "2026-04-08", "2026-04-09 2026-04-14"),
        ("24/7", "2022-12-24", "2022-12-25 2022-12-26"),  # Christmas on a Sunday
        ("XTAE", "2025-06-25", "2025-06-26 2025-06-29 2025-06-30"),  # Sunday to Thursday until 2026
        ("XTAE", "2026-01-08", "2026-01-09 2026-01-12"),
    ],
)
def test_next_sessions_skip_weekends_and_holidays(exchange: str, after: str, expected: str) -> None:
    days = tuple(date.fromisoformat(day) for day in expected.split())

    assert next_sessions(exchange, date.fromisoformat(after), len(days)) == days


@given(after=st.dates(date(1900, 1, 3), date(2099, 1, 1)), count=st.integers(0, 60))
def test_next_sessions_are_ascending_and_after_the_date(after: date, count: int) -> None:
    sessions = next_sessions("BVMF", after, count)

    assert len(sessions) == count
    assert list(sessions) == sorted(set(sessions))
    assert all(session > after for session in sessions)


@pytest.mark.parametrize("suffix", [".NS", ".BO", ".SS", ".SZ", ".SI"])
@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2026, 11, 28, tzinfo=UTC), date(2026, 11, 27)),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), date(2026, 12, 31)),
        (datetime(2027, 1, 4, 12, tzinfo=UTC), date(2027, 1, 4)),
    ],
)
def test_an_exchange_whose_calendar_ends_this_year_has_sessions_of_next_year(
    suffix: str, now: datetime, last: date
) -> None:
    exchange = exchanges.exchange_of(f"ANY{suffix}")

    completed = last_completed_session(exchange, now)
    sessions = next_sessions(exchange, completed, 30)

    assert completed == last
    assert last_known_day(exchange) == date(2026, 12, 31)
    assert len(sessions) == 30
    assert [is_estimated(exchange, day) for day in sessions] == [day > date(2026, 12, 31) for day in sessions]
    assert all(day.weekday() < 5 for day in sessions)
    if exchange == "XBOM":
        assert not {(1, 26), (12, 25)} & {(day.month, day.day) for day in sessions}


@pytest.mark.parametrize(
    ("exchange", "after", "expected"),
    [
        ("XBOM", date(2027, 1, 25), date(2027, 1, 27)),  # Republic Day is a Tuesday
        ("XSHG", date(2027, 9, 30), date(2027, 10, 8)),  # National Day, and the week after it
        ("XSES", date(2028, 12, 22), date(2028, 12, 26)),  # Christmas is a Monday
    ],
)
def test_estimated_sessions_leave_fixed_holidays_out(exchange: str, after: date, expected: date) -> None:
    assert next_sessions(exchange, after, 1) == (expected,)
    assert is_estimated(exchange, expected)


@pytest.mark.parametrize(
    ("exchange", "day"),
    [
        ("XNYS", date(1929, 10, 24)),
        ("XBOM", date(1990, 3, 1)),
        ("XTKS", date(1989, 12, 29)),
        ("XTAE", date(2020, 3, 1)),
    ],
)
def test_before_the_calendar_begins_sessions_are_estimated(exchange: str, day: date) -> None:
    evening = datetime.combine(day, datetime.max.time(), UTC)

    assert last_completed_session(exchange, evening) == day
    assert is_estimated(exchange, day)
    assert len(next_sessions(exchange, day, 30)) == 30


@pytest.mark.parametrize(
    ("exchange", "day", "settled"),
    [
        ("XNYS", "2024-03-15", "2024-03-15T20:20Z"),  # the close is at 20:00
        ("XNYS", "2023-11-24", "2023-11-24T18:20Z"),  # the day after Thanksgiving is a half day
        ("XBOM", "2027-01-05", "2027-01-05T10:20Z"),  # estimated, at the usual time
        ("XBOM", "2028-07-05", "2028-07-05T10:20Z"),
        ("24/7", "2024-03-16", "2024-03-17T00:20Z"),  # days end at midnight UTC
    ],
)
def test_session_is_completed_twenty_minutes_after_its_close(exchange: str, day: str, settled: str) -> None:
    session, moment = date.fromisoformat(day), datetime.fromisoformat(settled)

    assert is_completed(exchange, session, moment)
    assert not is_completed(exchange, session, moment - timedelta(seconds=1))


@given(minutes=st.integers(0, 150 * 365 * 24 * 60))
def test_next_session_is_never_completed_already(minutes: int) -> None:
    now = datetime(1900, 2, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    last = last_completed_session("XNYS", now)

    assert is_completed("XNYS", last, now)
    assert not is_completed("XNYS", next_sessions("XNYS", last, 1)[0], now)


def test_an_exchange_has_its_own_date() -> None:
    moment = datetime(2024, 3, 15, 23, tzinfo=UTC)

    assert (local_date("XTKS", moment), local_date("XNYS", moment)) == (date(2024, 3, 16), date(2024, 3, 15))


@pytest.mark.parametrize(
    ("days", "now", "last", "stale"),
    [
        ((date(2024, 3, 14), date(2024, 3, 15)), "2024-03-15T18:00Z", date(2024, 3, 14), False),  # unfinished
        ((date(2024, 3, 14),), "2024-03-15T21:00Z", date(2024, 3, 14), True),
        ((date(2024, 1, 12),), "2024-01-15T23:00Z", date(2024, 1, 12), False),  # a holiday
    ],
)
def test_history_ends_with_a_completed_session_and_is_stale_without_the_last(
    days: tuple[date, ...], now: str, last: date, stale: bool
) -> None:
    history = known_at(series_of("AAPL", *days), datetime.fromisoformat(now))

    assert (history.as_of, history.stale, history.dropped) == (last, stale, {})


def test_history_without_a_completed_session_is_empty() -> None:
    series = series_of("AAPL", date(2024, 3, 15))

    with pytest.raises(PricesEmpty):
        known_at(series, datetime(2024, 3, 15, 18, tzinfo=UTC))


def test_rows_of_days_to_come_are_left_out_and_counted() -> None:
    series = series_of("AAPL", date(2024, 3, 14), date(2024, 3, 18), date(2042, 1, 2))

    history = known_at(series, datetime(2024, 3, 15, 12, tzinfo=UTC))

    assert history.as_of == date(2024, 3, 14)
    assert history.dropped == {"future": 2}


@pytest.mark.parametrize(
    ("hour", "last"), [(16, date(2026, 2, 1)), (14, date(2026, 2, 1)), (13, date(2026, 1, 30)), (8, date(2026, 1, 30))]
)
def test_a_session_that_no_calendar_lists_is_final_some_hours_after_the_usual_close(hour: int, last: date) -> None:
    rows = [(3100.0, 3150.0, 3080.0, 3120.0, 2e6), (3120.0, 3200.0, 3110.0, 3190.0, 3e6)]
    series, _ = clean("TCS.NS", [date(2026, 1, 30), date(2026, 2, 1)], rows)  # Budget day was a Sunday

    history = known_at(series, datetime(2026, 2, 1, hour, tzinfo=UTC))

    assert history.as_of == last
    assert history.dropped == {}


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ((10.0, 10.0, 10.0, 10.0, 0.0), False),
        ((np.nan, np.nan, np.nan, 10.0, 0.0), False),
        ((10.0, 10.0, 10.0, 10.0 * (1 + 1e-8), 0.0), False),
        ((10.0, 10.0, 10.0, 10.0, 5.0), True),
        ((10.0, 10.5, 10.0, 10.0, 0.0), True),
        ((10.5, 10.5, 10.5, 10.5, 0.0), True),
    ],
    ids=["flat", "close alone", "rounding", "volume", "range", "move"],
)
def test_a_row_on_a_day_without_a_session_is_a_ghost_unless_something_happened(
    row: tuple[float, ...], kept: bool
) -> None:
    friday, saturday, monday = date(2024, 3, 15), date(2024, 3, 16), date(2024, 3, 18)
    usual = (10.0, 10.5, 9.5, 10.0, 100.0)
    series, _ = clean("AAPL", [friday, saturday, monday], [usual, row, usual])

    history = known_at(series, datetime(2024, 3, 18, 23, tzinfo=UTC))

    assert len(history.series) == (3 if kept else 2)
    assert history.dropped == ({} if kept else {"ghost": 1})


def test_a_halted_session_is_no_ghost() -> None:
    usual, halted = (10.0, 10.5, 9.5, 10.0, 100.0), (10.0, 10.0, 10.0, 10.0, 0.0)
    series, _ = clean("AAPL", [date(2024, 3, 14), date(2024, 3, 15)], [usual, halted])

    history = known_at(series, datetime(2024, 3, 15, 23, tzinfo=UTC))

    assert history.as_of == date(2024, 3, 15)


def test_until_another_row_is_final_the_answer_is_the_same_object() -> None:
    series, defects = series_of("AAPL", date(2024, 3, 14), date(2024, 3, 15)), Defects()

    first, again, later = (
        history_at(series, datetime.fromisoformat(now), source="test", defects=defects)
        for now in ("2024-03-15T12:00:10Z", "2024-03-15T13:30:59Z", "2024-03-15T20:20Z")
    )

    assert again is first
    assert later.as_of > first.as_of


@pytest.mark.parametrize(
    ("now", "last"),
    [
        ("2024-03-15T20:19Z", date(2024, 3, 14)),
        ("2024-03-15T20:20Z", date(2024, 3, 15)),
        ("2024-03-16T23:59Z", date(2024, 3, 15)),
        ("2024-03-17T00:00Z", date(2024, 3, 16)),  # a Saturday, four hours after the usual close
    ],
)
def test_the_last_final_day_may_be_one_without_a_session(now: str, last: date) -> None:
    assert last_final_day("XNYS", datetime.fromisoformat(now)) == last


def test_a_calendar_is_built_once() -> None:
    assert _timetable("XNYS") is _timetable("XNYS")


def test_what_a_calendar_covers_is_not_estimated() -> None:
    days = [date(1989, 12, 31), date(1990, 1, 1), date(2040, 12, 31), date(2041, 1, 1)]

    assert [is_estimated("XNYS", day) for day in days] == [True, False, False, True]


def test_sessions_between_two_days_include_both_and_leave_holidays_out() -> None:
    found = sessions_between("XNYS", date(2023, 12, 29), date(2024, 1, 3)).tolist()

    assert found == [date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3)]


def test_estimated_sessions_do_not_count() -> None:
    assert sessions_between("XNYS", date(1980, 1, 1), date(1980, 12, 31)).size == 0
    assert sessions_between("XBOM", date(2026, 12, 31), date(2027, 3, 1)).tolist() == [date(2026, 12, 31)]


@pytest.mark.parametrize(
    ("exchange", "first", "last", "expected"),
    [
        ("XNYS", "2024-06-03", "2024-07-01", pytest.approx(252 * 365.2425 / 366, rel=1e-6)),
        ("24/7", "2019-05-01", "2021-05-01", pytest.approx(365.2425)),
        ("XNYS", "1930-01-02", "1931-01-02", pytest.approx(252, abs=1.5)),  # before the calendar begins
        *[("XBOM", f"{year}-01-02", f"{year}-06-30", pytest.approx(247, abs=3)) for year in (1930, 2027, 2090)],
    ],
)
def test_a_year_has_as_many_sessions_as_the_calendar_or_as_usual_beyond_it(
    exchange: str, first: str, last: str, expected: object
) -> None:
    assert sessions_per_year(exchange, date.fromisoformat(first), date.fromisoformat(last)) == expected
