import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import CalendarTooShort, PricesEmpty, UnknownExchange
from services.prices.calendars import (
    _BY_INDEX,
    _BY_SUFFIX,
    _timetable,
    exchange_of,
    history_at,
    is_completed,
    last_completed_session,
    next_sessions,
)
from services.prices.series import PriceSeries, clean


def series_of(ticker: str, *sessions: date) -> PriceSeries:
    series, _ = clean(ticker, sessions, np.full((len(sessions), 5), 10.0))
    return series


@pytest.mark.parametrize(
    ("ticker", "exchange"),
    [
        ("AAPL", "XNYS"),
        ("BRK-B", "XNYS"),
        ("BAC-PL", "XNYS"),
        ("PETR4.SA", "BVMF"),
        ("petr4.sa", "BVMF"),
        ("BTC-USD", "24/7"),
        ("ETH-BTC", "24/7"),
        ("EURUSD=X", "24/5"),
        ("ES=F", "CMES"),
        ("^GSPC", "XNYS"),
        ("^BVSP", "BVMF"),
        ("^FTSE", "XLON"),
        ("000001.SS", "XSHG"),
        ("BRK-B.MX", "XMEX"),
    ],
)
def test_ticker_belongs_to_its_exchange(ticker: str, exchange: str) -> None:
    assert exchange_of(ticker) == exchange


def test_unknown_suffix_has_no_exchange() -> None:
    with pytest.raises(UnknownExchange, match=r"FOO\.QQ"):
        exchange_of("FOO.QQ")


@pytest.mark.parametrize("exchange", sorted({*_BY_SUFFIX.values(), *_BY_INDEX.values(), "24/7", "24/5", "CMES"}))
def test_every_exchange_named_has_a_calendar_for_these_years(exchange: str) -> None:
    timetable = _timetable(exchange)

    assert timetable.sessions[0] <= np.datetime64("2026-01-05")
    assert timetable.sessions[-1] >= np.datetime64("2026-12-30")
    assert (np.diff(timetable.sessions) > np.timedelta64(0, "D")).all()
    assert (np.diff(timetable.closes) > np.timedelta64(0, "s")).all()


def test_new_york_skips_the_weekend_and_martin_luther_king_day() -> None:
    sessions = next_sessions("AAPL", date(2024, 1, 12), 2)

    assert sessions == (date(2024, 1, 16), date(2024, 1, 17))


def test_sao_paulo_skips_carnival() -> None:
    sessions = next_sessions("PETR4.SA", date(2024, 2, 9), 2)

    assert sessions == (date(2024, 2, 14), date(2024, 2, 15))


def test_crypto_trades_on_christmas_and_on_sundays() -> None:
    sessions = next_sessions("BTC-USD", date(2022, 12, 24), 2)

    assert sessions == (date(2022, 12, 25), date(2022, 12, 26))


@given(after=st.dates(date(1990, 1, 3), date(2035, 1, 1)), count=st.integers(0, 60))
def test_next_sessions_are_ascending_and_after_the_date(after: date, count: int) -> None:
    sessions = next_sessions("PETR4.SA", after, count)

    assert len(sessions) == count
    assert list(sessions) == sorted(set(sessions))
    assert all(session > after for session in sessions)


@pytest.mark.parametrize("after", [date(1980, 1, 1), date(2040, 12, 30), date(2100, 1, 1), date.max, date.min])
def test_days_beyond_the_calendar_are_a_named_error(after: date) -> None:
    with pytest.raises(CalendarTooShort, match="BVMF knows"):
        next_sessions("PETR4.SA", after, 5)


@pytest.mark.parametrize("year", [1, 1970, 2041, 9999])
def test_moments_beyond_the_calendar_are_a_named_error(year: int) -> None:
    with pytest.raises(CalendarTooShort, match="XNYS knows"):
        last_completed_session("AAPL", datetime(year, 6, 1, tzinfo=UTC))


def test_session_is_completed_twenty_minutes_after_the_close() -> None:
    friday = date(2024, 3, 15)  # New York closes at 20:00 UTC

    assert not is_completed("AAPL", friday, datetime(2024, 3, 15, 20, 19, 59, tzinfo=UTC))
    assert is_completed("AAPL", friday, datetime(2024, 3, 15, 20, 20, tzinfo=UTC))


def test_half_day_is_completed_after_its_early_close() -> None:
    day_after_thanksgiving = date(2023, 11, 24)  # closes at 18:00 UTC

    assert is_completed("AAPL", day_after_thanksgiving, datetime(2023, 11, 24, 18, 30, tzinfo=UTC))


def test_crypto_session_ends_at_midnight_utc() -> None:
    just_before = datetime(2024, 3, 17, 0, 19, tzinfo=UTC)
    just_after = datetime(2024, 3, 17, 0, 20, tzinfo=UTC)

    assert last_completed_session("BTC-USD", just_before) == date(2024, 3, 15)
    assert last_completed_session("BTC-USD", just_after) == date(2024, 3, 16)


def test_over_a_weekend_friday_stays_the_last_completed_session() -> None:
    sunday = datetime(2024, 3, 17, 12, tzinfo=UTC)

    assert last_completed_session("AAPL", sunday) == date(2024, 3, 15)


@given(minutes=st.integers(0, 45 * 365 * 24 * 60))
def test_next_session_is_never_completed_already(minutes: int) -> None:
    now = datetime(1990, 2, 1, tzinfo=UTC) + timedelta(minutes=minutes)

    last = last_completed_session("AAPL", now)

    assert not is_completed("AAPL", next_sessions("AAPL", last, 1)[0], now)


def test_history_leaves_the_unfinished_session_out() -> None:
    series = series_of("AAPL", date(2024, 3, 14), date(2024, 3, 15))

    history = history_at(series, datetime(2024, 3, 15, 18, tzinfo=UTC), source="test", dropped={})

    assert history.as_of == date(2024, 3, 14)
    assert not history.stale


def test_history_that_misses_a_completed_session_is_stale() -> None:
    series = series_of("AAPL", date(2024, 3, 14))

    history = history_at(series, datetime(2024, 3, 15, 21, tzinfo=UTC), source="test", dropped={})

    assert history.stale


def test_history_over_a_holiday_is_not_stale() -> None:
    series = series_of("AAPL", date(2024, 1, 12))

    history = history_at(series, datetime(2024, 1, 15, 23, tzinfo=UTC), source="test", dropped={})

    assert not history.stale


def test_history_without_a_completed_session_is_empty() -> None:
    series = series_of("AAPL", date(2024, 3, 15))

    with pytest.raises(PricesEmpty):
        history_at(series, datetime(2024, 3, 15, 18, tzinfo=UTC), source="test", dropped={})


def test_importing_the_price_modules_imports_no_heavy_library() -> None:
    modules = "calendars, sample, csv_files, yahoo, cache, fallback"
    heavy = "{'pandas', 'yfinance', 'exchange_calendars', 'arch', 'curl_cffi'}"
    program = f"import sys; from services.prices import {modules}; print({heavy} & set(sys.modules))"
    root = Path(__file__).parents[3]

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)

    assert ran.stdout.strip() == "set()"
