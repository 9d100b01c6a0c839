"""Cells of dates on their own: moments of the day, and the bounds of what is a date."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from errors import PricesInvalid
from services.prices.csv.dates import read_days
from services.prices.csv.rows import Column


def column(*cells: str) -> Column:
    return Column("AAPL.csv", "Date", list(range(2, 2 + len(cells))), list(cells))


def days(*cells: str) -> list[date | None]:
    found: list[date | None] = read_days(column(*cells), lambda moment: moment.date()).tolist()
    return found


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2024-03-15 12:30 AM Z", datetime(2024, 3, 15, 0, 30, tzinfo=UTC)),
        ("2024-03-15 12:30 PM UTC", datetime(2024, 3, 15, 12, 30, tzinfo=UTC)),
        ("2024-03-15 1:02:03 pm GMT", datetime(2024, 3, 15, 13, 2, 3, tzinfo=UTC)),
        ("2024-03-15, 11:59 am +0545", datetime(2024, 3, 15, 11, 59, tzinfo=timezone(timedelta(hours=5, minutes=45)))),
        ("2024-03-15T23:59-03:30", datetime(2024, 3, 15, 23, 59, tzinfo=timezone(-timedelta(hours=3, minutes=30)))),
        ("20240315 16:00:00.123+02", datetime(2024, 3, 15, 16, tzinfo=timezone(timedelta(hours=2)))),
        ("1710511200", datetime(2024, 3, 15, 14, tzinfo=UTC)),
        ("1710511200000", datetime(2024, 3, 15, 14, tzinfo=UTC)),
        ("99999999999", None),  # seconds, of the year 5138
        ("100000000800", datetime(1973, 3, 3, 9, 46, 40, 800_000, tzinfo=UTC)),
    ],
)
def test_a_moment_is_that_of_its_offset(cell: str, moment: datetime | None) -> None:
    seen: list[datetime] = []

    def at_the_exchange(found: datetime) -> date:
        seen.append(found)
        return date(2001, 2, 3)

    if moment is None:
        with pytest.raises(PricesInvalid):
            read_days(column(cell), at_the_exchange)
        return
    assert read_days(column(cell), at_the_exchange).tolist() == [date(2001, 2, 3)]
    assert seen == [moment]
    assert seen[0].utcoffset() == moment.utcoffset()


@pytest.mark.parametrize("cell", ["2024-03-15 0:30 AM Z", "2024-03-15 13:00 PM Z", "2024-03-15 10:60 Z"])
def test_a_time_that_no_clock_shows_is_refused(cell: str) -> None:
    with pytest.raises(PricesInvalid, match="line 2"):
        days(cell)


def test_years_are_those_of_three_centuries_before_and_two_after() -> None:
    assert days("1700-01-01", "2199-12-31") == [date(1700, 1, 1), date(2199, 12, 31)]
    assert days("-8520336000", "7258032000") == [date(1700, 1, 1), date(2199, 12, 31)]
    for beyond in ("1699-12-31", "2200-01-01", "-8520422400", "7258118400"):
        with pytest.raises(PricesInvalid, match="line 2"):
            days(beyond)


def test_a_year_of_two_digits_is_within_a_century_of_1969() -> None:
    assert days("31/12/68", "30/12/69") == [date(2068, 12, 31), date(1969, 12, 30)]


def test_empty_cells_have_no_date() -> None:
    assert np.isnat(read_days(column("", "2024-03-15", "null"), lambda moment: moment.date())).tolist() == [
        True,
        False,
        True,
    ]


def test_the_form_of_most_cells_says_which_cell_is_wrong() -> None:
    with pytest.raises(PricesInvalid, match="line 2: cannot read 'x'"):
        days("x", "15/03/2024")
    with pytest.raises(PricesInvalid, match="line 4: cannot read '01/13/2024'"):
        days("31/01/2024", "30/01/2024", "01/13/2024")
    with pytest.raises(PricesInvalid, match="line 4: cannot read '15/03/2024'"):
        days("2024-03-14", "2024-03-15", "15/03/2024")
