"""How many sessions an exchange has: between two days, and in a year."""

from datetime import date

import pytest

from services.prices.calendars import sessions_between, sessions_per_year


def test_sessions_between_two_days_include_both_and_leave_holidays_out() -> None:
    found = sessions_between("XNYS", date(2023, 12, 29), date(2024, 1, 3)).tolist()

    assert found == [date(2023, 12, 29), date(2024, 1, 2), date(2024, 1, 3)]


def test_estimated_sessions_do_not_count() -> None:
    assert sessions_between("XNYS", date(1980, 1, 1), date(1980, 12, 31)).size == 0
    assert sessions_between("XBOM", date(2026, 12, 31), date(2027, 3, 1)).tolist() == [date(2026, 12, 31)]


def test_new_york_had_252_sessions_in_2024() -> None:
    found = sessions_per_year("XNYS", date(2024, 6, 3), date(2024, 7, 1))

    assert found == pytest.approx(252 * 365.2425 / 366, rel=1e-6)


def test_a_market_that_never_closes_has_every_day_of_the_year() -> None:
    assert sessions_per_year("24/7", date(2019, 5, 1), date(2021, 5, 1)) == pytest.approx(365.2425)


def test_before_the_calendar_begins_a_year_is_as_long_as_it_is_on_average() -> None:
    assert sessions_per_year("XNYS", date(1930, 1, 2), date(1931, 1, 2)) == pytest.approx(252, abs=1.5)


@pytest.mark.parametrize("year", [1930, 2027, 2090])
def test_beyond_a_short_calendar_a_year_is_as_long_as_it_is_on_average(year: int) -> None:
    assert sessions_per_year("XBOM", date(year, 1, 2), date(year, 6, 30)) == pytest.approx(247, abs=3)
