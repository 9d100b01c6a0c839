import csv
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import PricesEmpty
from services.prices import exchanges
from services.prices.calendars import (
    _timetable,
    history_at,
    is_completed,
    is_estimated,
    last_completed_session,
    last_known_day,
    local_date,
    next_sessions,
    sessions_between,
)
from services.prices.cleaning import clean
from services.prices.pandas4 import ignore_pandas_4_warnings
from services.prices.series import Defects, PriceHistory, PriceSeries

REFERENCE = Path(__file__).parents[4] / "shared" / "data"
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
def test_every_calendar_ascends_and_agrees_with_the_package(exchange: str) -> None:
    from exchange_calendars import get_calendar

    ignore_pandas_4_warnings()
    timetable = _timetable(exchange)

    assert (np.diff(timetable.sessions) > np.timedelta64(0, "D")).all()
    assert (np.diff(timetable.closes) > np.timedelta64(0, "s")).all()
    assert timetable.known[0] <= date(2026, 1, 5)
    assert timetable.known[1] >= date(2026, 12, 31)
    if not declares_special_weeks(exchange):
        package = get_calendar(exchange)
        first, last = package.first_session.date(), package.last_session.date()
        own = package.sessions.to_numpy().astype("datetime64[D]")
        assert np.array_equal(sessions_between(exchange, first, last), own)


def test_every_calendar_with_special_weeks_has_their_sessions() -> None:
    from exchange_calendars.calendar_utils import _default_calendar_factories

    declared = {exchange for exchange in _default_calendar_factories if declares_special_weeks(exchange)}

    assert declared == SPECIAL_SESSIONS.keys()  # a new one needs a session here
    for exchange, days in SPECIAL_SESSIONS.items():
        assert [day for day in days if not is_session(exchange, day)] == [], exchange


def test_seoul_traded_on_saturdays_until_1998() -> None:
    days = sessions_between("XKRX", date(1995, 1, 1), date(1998, 12, 31))

    assert sum(day.weekday() == 5 for day in days.tolist()) == 196
    assert sum(day.weekday() == 6 for day in days.tolist()) == 0


def test_seoul_has_no_saturdays_any_more() -> None:
    days = sessions_between("XKRX", date(1999, 1, 1), date(2026, 12, 31))

    assert all(day.weekday() < 5 for day in days.tolist())


def test_new_york_skips_the_weekend_and_martin_luther_king_day() -> None:
    sessions = next_sessions("XNYS", date(2024, 1, 12), 2)

    assert sessions == (date(2024, 1, 16), date(2024, 1, 17))


def test_sao_paulo_skips_carnival() -> None:
    sessions = next_sessions("BVMF", date(2024, 2, 9), 2)

    assert sessions == (date(2024, 2, 14), date(2024, 2, 15))


@pytest.mark.parametrize("exchange", ["ASEX", "XBSE"])
def test_athens_and_bucharest_skip_orthodox_easter(exchange: str) -> None:
    sessions = next_sessions(exchange, date(2026, 4, 8), 2)  # Orthodox Good Friday was 10 April

    assert sessions == (date(2026, 4, 9), date(2026, 4, 14))


def test_crypto_trades_on_christmas_and_on_sundays() -> None:
    sessions = next_sessions("24/7", date(2022, 12, 24), 2)

    assert sessions == (date(2022, 12, 25), date(2022, 12, 26))


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


def test_tel_aviv_traded_from_sunday_to_thursday_until_2026() -> None:
    assert next_sessions("XTAE", date(2025, 6, 25), 3) == (date(2025, 6, 26), date(2025, 6, 29), date(2025, 6, 30))
    assert next_sessions("XTAE", date(2026, 1, 8), 2) == (date(2026, 1, 9), date(2026, 1, 12))


def test_session_is_completed_twenty_minutes_after_the_close() -> None:
    friday = date(2024, 3, 15)  # New York closes at 20:00 UTC

    assert not is_completed("XNYS", friday, datetime(2024, 3, 15, 20, 19, 59, tzinfo=UTC))
    assert is_completed("XNYS", friday, datetime(2024, 3, 15, 20, 20, tzinfo=UTC))


def test_half_day_is_completed_after_its_early_close() -> None:
    day_after_thanksgiving = date(2023, 11, 24)  # closes at 18:00 UTC

    assert is_completed("XNYS", day_after_thanksgiving, datetime(2023, 11, 24, 18, 30, tzinfo=UTC))


@pytest.mark.parametrize("day", [date(2027, 1, 5), date(2028, 7, 5)])
def test_an_estimated_session_closes_at_the_usual_time(day: date) -> None:
    settled = datetime(day.year, day.month, day.day, 10, 20, tzinfo=UTC)  # Mumbai closes at 10:00 UTC

    assert is_completed("XBOM", day, settled)
    assert not is_completed("XBOM", day, settled - timedelta(seconds=1))


def test_crypto_session_ends_at_midnight_utc() -> None:
    just_before = datetime(2024, 3, 17, 0, 19, tzinfo=UTC)
    just_after = datetime(2024, 3, 17, 0, 20, tzinfo=UTC)

    assert last_completed_session("24/7", just_before) == date(2024, 3, 15)
    assert last_completed_session("24/7", just_after) == date(2024, 3, 16)


def test_over_a_weekend_friday_stays_the_last_completed_session() -> None:
    sunday = datetime(2024, 3, 17, 12, tzinfo=UTC)

    assert last_completed_session("XNYS", sunday) == date(2024, 3, 15)


@given(minutes=st.integers(0, 150 * 365 * 24 * 60))
def test_next_session_is_never_completed_already(minutes: int) -> None:
    now = datetime(1900, 2, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    last = last_completed_session("XNYS", now)

    assert is_completed("XNYS", last, now)
    assert not is_completed("XNYS", next_sessions("XNYS", last, 1)[0], now)


def test_an_exchange_has_its_own_date() -> None:
    moment = datetime(2024, 3, 15, 23, tzinfo=UTC)

    assert (local_date("XTKS", moment), local_date("XNYS", moment)) == (date(2024, 3, 16), date(2024, 3, 15))


def test_history_leaves_the_unfinished_session_out() -> None:
    series = series_of("AAPL", date(2024, 3, 14), date(2024, 3, 15))

    history = known_at(series, datetime(2024, 3, 15, 18, tzinfo=UTC))

    assert history.as_of == date(2024, 3, 14)
    assert history.dropped == {}
    assert not history.stale


def test_history_that_misses_a_completed_session_is_stale() -> None:
    series = series_of("AAPL", date(2024, 3, 14))

    assert known_at(series, datetime(2024, 3, 15, 21, tzinfo=UTC)).stale


def test_history_over_a_holiday_is_not_stale() -> None:
    series = series_of("AAPL", date(2024, 1, 12))

    assert not known_at(series, datetime(2024, 1, 15, 23, tzinfo=UTC)).stale


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
    ("hour", "last"),
    [(16, date(2026, 2, 1)), (14, date(2026, 2, 1)), (13, date(2026, 1, 30)), (8, date(2026, 1, 30))],
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
        ((10.0, 10.0, 10.0, 10.0, 5.0), True),
        ((10.0, 10.5, 10.0, 10.0, 0.0), True),
        ((10.5, 10.5, 10.5, 10.5, 0.0), True),
    ],
    ids=["flat", "close alone", "volume", "range", "move"],
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


def test_real_ghosts_are_found() -> None:
    path = REFERENCE / "PETR4.SA.csv"
    if not path.is_file():
        pytest.skip("no reference prices of PETR4.SA in a folder shared/data beside the repository")
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    days = [date.fromisoformat(row["Date"][:10]) for row in read]
    bars = [[float(row[name] or "nan") for name in ("Open", "High", "Low", "Close", "Volume")] for row in read]
    series, _ = clean("PETR4.SA", days, bars)

    history = known_at(series, datetime(2026, 11, 28, tzinfo=UTC))

    ghosts = history.defects.dropped["ghost"].tolist()
    assert history.dropped["ghost"] == 9
    assert (ghosts[0], ghosts[-1]) == (date(2017, 6, 15), date(2018, 1, 25))


def test_importing_the_price_modules_imports_no_heavy_library() -> None:
    modules = "calendars, cleaning, exchanges, sample, csv, yahoo, cache, fallback"
    heavy = "{'pandas', 'yfinance', 'exchange_calendars', 'arch', 'curl_cffi'}"
    program = f"import sys; from services.prices import {modules}; print({heavy} & set(sys.modules))"
    root = Path(__file__).parents[3]

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)

    assert ran.stdout.strip() == "set()"
