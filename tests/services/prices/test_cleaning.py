"""Cleaning repairs or drops bad rows and cells, and changes nothing else."""

from datetime import date, timedelta
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from errors import PricesInvalid, UnknownExchange
from services.prices.cleaning import clean, clean_raw, validate_completeness
from services.prices.exchanges import Listing
from services.prices.series import COLUMNS, Defects, PriceHistory, RawBars, to_date

DAYS = [date(2024, 1, 1) + timedelta(days=day) for day in range(40)]
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
GOOD_ROW = (10.0, 11.0, 9.0, 10.5, 100.0)

Rows = tuple[list[date], NDArray[np.float64]]

any_number = st.floats(allow_nan=True, allow_infinity=True)
near_ten = st.floats(8.0, 12.0)  # bars that overlap: some sound, some with an open, high or low outside


def good_rows(count: int) -> NDArray[np.float64]:
    return np.tile(GOOD_ROW, (count, 1))


@st.composite
def raw_rows(draw: st.DrawFn, cell: st.SearchStrategy[float], *, distinct: bool = False) -> Rows:
    days = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=40, unique=distinct))
    cells = draw(st.lists(cell, min_size=5 * len(days), max_size=5 * len(days)))
    return days, np.array(cells).reshape(-1, 5)


@given(raw_rows(any_number) | raw_rows(near_ten))
def test_clean_returns_a_valid_series_or_refuses(raw: Rows) -> None:
    days, rows = raw

    try:
        series, _ = clean("AAPL", days, rows)
    except PricesInvalid:
        return

    opened, high, low, close, volume = series.bars.T
    assert len(series) > 0
    assert (np.diff(series.sessions) > np.timedelta64(0, "D")).all()
    assert np.isfinite(close).all()
    assert np.isfinite(volume).all()
    assert (close > 0).all()
    assert (volume >= 0).all()
    for cell in (opened, high, low):
        assert (np.isnan(cell) | (np.isfinite(cell) & (cell > 0))).all()
    assert not (high < close).any()
    assert not (high < opened).any()
    assert not (low > close).any()
    assert not (low > opened).any()


@given(raw_rows(any_number) | raw_rows(near_ten))
def test_cleaning_a_cleaned_series_changes_nothing(raw: Rows) -> None:
    days, rows = raw
    try:
        series, _ = clean("AAPL", days, rows)
    except PricesInvalid:
        return

    again, defects = clean("AAPL", series.sessions, series.bars)

    assert np.array_equal(again.sessions, series.sessions)
    assert np.array_equal(again.bars, series.bars, equal_nan=True)
    assert defects.n_dropped == {}
    assert defects.n_repaired == {
        name: int(np.isnan(series.bars[:, column]).sum())
        for column, name in enumerate(("open", "high", "low"))
        if not np.isnan(series.bars[:, column]).all()  # then it looks like a column that the source does not have
        if np.isnan(series.bars[:, column]).any()
    }


@given(raw_rows(near_ten, distinct=True))
def test_a_row_with_a_usable_close_keeps_it(raw: Rows) -> None:
    days, rows = raw

    series, defects = clean("AAPL", days, rows)

    expected = dict(zip(days, rows[:, CLOSE].tolist(), strict=True))
    assert {to_date(day): close for day, close in zip(series.sessions, series.close.tolist(), strict=True)} == expected
    assert defects.n_dropped == {}


@given(raw_rows(near_ten), st.integers(-20, 20))
def test_cleaning_scaled_prices_scales_the_cleaned_prices(raw: Rows, power: int) -> None:
    days, rows = raw
    factors = np.array([2.0**power] * 4 + [1.0])
    try:
        series, defects = clean("AAPL", days, rows)
    except PricesInvalid:
        with pytest.raises(PricesInvalid):
            clean("AAPL", days, rows * factors)
        return

    scaled, scaled_defects = clean("AAPL", days, rows * factors)

    assert np.array_equal(scaled.sessions, series.sessions)
    assert np.array_equal(scaled.bars, series.bars * factors, equal_nan=True)
    assert (scaled_defects.n_dropped, scaled_defects.n_repaired) == (defects.n_dropped, defects.n_repaired)


@given(raw_rows(any_number, distinct=True) | raw_rows(near_ten, distinct=True), st.randoms(use_true_random=False))
def test_shuffled_rows_give_the_same_series(raw: Rows, random: Random) -> None:
    days, rows = raw
    order = list(range(len(days)))
    random.shuffle(order)
    try:
        series, _ = clean("AAPL", days, rows)
    except PricesInvalid:
        return

    shuffled, _ = clean("AAPL", [days[row] for row in order], rows[order])

    assert np.array_equal(shuffled.sessions, series.sessions)
    assert np.array_equal(shuffled.bars, series.bars, equal_nan=True)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *[(column, value) for column in (OPEN, HIGH, LOW) for value in (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e300)],
        (OPEN, 11.5),  # above the high
        (OPEN, 8.5),  # below the low
        (HIGH, 10.2),  # below the close
        (LOW, 10.8),  # above the close
        (OPEN, 60.0),  # more than five times the close
        (HIGH, 60.0),
        (OPEN, 2.0),  # less than a fifth of the close
        (LOW, 2.0),
    ],
)
def test_a_bad_open_high_or_low_becomes_unknown_and_is_counted(column: int, value: float) -> None:
    rows = good_rows(3)
    rows[1, column] = value
    expected = good_rows(3)
    expected[1, column] = np.nan

    series, defects = clean("AAPL", DAYS[:3], rows)

    assert np.array_equal(series.bars, expected, equal_nan=True)
    assert defects.n_dropped == {}
    assert defects.n_repaired == {COLUMNS[column].lower(): 1}
    assert defects.repaired[COLUMNS[column].lower()].tolist() == [DAYS[1]]


def test_a_high_and_a_low_may_be_as_far_as_five_times_the_close() -> None:
    bars = [(10.0, 50.0, 2.0, 10.0, 1.0), (2.0, 50.0, 2.0, 10.0, 1.0)]

    series, defects = clean("AAPL", DAYS[:2], bars)

    assert series.bars.tolist() == [list(row) for row in bars]
    assert defects.n_repaired == {}


@pytest.mark.parametrize(("short", "repaired"), [(0.9e-5, {}), (1.1e-5, {"high": 1, "low": 1})])
def test_a_range_may_be_short_by_a_hundred_thousandth(short: float, repaired: dict[str, int]) -> None:
    rows = good_rows(2)
    rows[1, [OPEN, HIGH, LOW]] = 10.5, 10.5 * (1 - short), 10.5 * (1 + short)

    _, defects = clean("AAPL", DAYS[:2], rows)

    assert defects.n_repaired == repaired


def test_an_open_above_a_high_that_is_unknown_stays() -> None:
    rows = [(11.5, np.nan, 9.0, 10.5, 1.0), (10.5, 11.0, 10.0, 10.5, 1.0)]
    series, defects = clean("AAPL", DAYS[:2], rows)

    assert series.bars[0, OPEN] == 11.5
    assert defects.n_repaired == {"high": 1}


def test_a_range_that_rounding_left_just_short_is_widened_and_not_counted() -> None:
    series, defects = clean("AAPL", DAYS[:1], [(10.0, 10.5 - 1e-7, 10.0 + 1e-7, 10.5, 1.0)])

    assert series.bars[0].tolist() == [10.0, 10.5, 10.0, 10.5, 1.0]
    assert (defects.n_dropped, defects.n_repaired) == ({}, {})


@pytest.mark.parametrize(
    ("value", "repaired"), [(-5.0, {"volume": 1}), (np.inf, {"volume": 1}), (-np.inf, {"volume": 1}), (np.nan, {})]
)
def test_an_impossible_volume_becomes_zero_and_is_counted_but_a_missing_one_is_not(
    value: float, repaired: dict[str, int]
) -> None:
    rows = good_rows(3)
    rows[1, VOLUME] = value

    series, defects = clean("AAPL", DAYS[:3], rows)

    assert series.bars[:, VOLUME].tolist() == [100.0, 0.0, 100.0]
    assert (defects.n_dropped, defects.n_repaired) == ({}, repaired)


@pytest.mark.parametrize(
    ("close", "reason"),
    [
        (np.nan, "missing"),
        (np.inf, "missing"),
        (-np.inf, "missing"),
        (0.0, "not_positive"),
        (-10.5, "not_positive"),
        (1e300, "implausible"),
        (5e-324, "implausible"),
        (1.1e15, "implausible"),
        (0.9e-15, "implausible"),
    ],
)
def test_a_row_without_a_usable_close_is_dropped_and_counted(close: float, reason: str) -> None:
    rows = good_rows(20)
    rows[7, CLOSE] = close

    series, defects = clean("AAPL", DAYS[:20], rows)

    assert len(series) == 19
    assert np.datetime64(DAYS[7]) not in series.sessions
    assert defects.n_dropped == {reason: 1}
    assert defects.dropped[reason].tolist() == [DAYS[7]]
    assert defects.n_repaired == {}


@pytest.mark.parametrize("close", [1e15, 1e-15])
def test_a_close_at_the_bounds_of_the_plausible_stays(close: float) -> None:
    series, _ = clean("AAPL", DAYS[:1], [(np.nan, np.nan, np.nan, close, 1.0)])

    assert series.close.tolist() == [close]


def test_a_row_without_a_date_is_dropped_and_counted() -> None:
    sessions = np.array(["2024-01-02", "NaT", "2024-01-03"], dtype="datetime64[D]")

    series, defects = clean("AAPL", sessions, good_rows(3))

    assert series.sessions.tolist() == [date(2024, 1, 2), date(2024, 1, 3)]
    assert defects.n_dropped == {"undated": 1}


@pytest.mark.parametrize(
    ("closes", "kept", "dropped"),
    [
        ([10.5, 10.5, 10.5], [10.5], {"duplicate": 2}),
        ([185.64, 370.87], [], {"contradictory": 2}),  # Apple and Microsoft on 2024-01-02
        ([10.5, 10.5 * (1 + 1e-8)], [10.5 * (1 + 1e-8)], {"duplicate": 1}),  # the rounding of an adjustment
        ([np.nan, 10.5], [10.5], {"missing": 1}),
    ],
)
def test_of_rows_with_one_date_one_stays_unless_their_closes_differ(
    closes: list[float], kept: list[float], dropped: dict[str, int]
) -> None:
    rows = good_rows(1 + len(closes))
    rows[1:, CLOSE] = closes

    series, defects = clean("AAPL", [DAYS[0], *[DAYS[1]] * len(closes)], rows)

    assert series.sessions.tolist() == DAYS[: 1 + len(kept)]
    assert series.close.tolist() == [10.5, *kept]
    assert defects.n_dropped == dropped


def test_rows_out_of_order_are_sorted_and_counted() -> None:
    rows = good_rows(3)
    rows[:, CLOSE] = [10.1, 10.3, 10.2]

    series, defects = clean("AAPL", [DAYS[0], DAYS[2], DAYS[1]], rows)

    assert series.close.tolist() == [10.1, 10.2, 10.3]
    assert defects.n_repaired == {"order": 1}


@pytest.mark.parametrize("days", [DAYS[:3], [DAYS[0], DAYS[0], DAYS[1]]], ids=["distinct", "with a duplicate"])
def test_a_file_with_the_newest_row_first_is_no_defect(days: list[date]) -> None:
    series, defects = clean("AAPL", days[::-1], good_rows(3))

    assert series.sessions.tolist() == sorted(set(days))
    assert defects.n_repaired == {}


@pytest.mark.parametrize("reason", ["missing", "contradictory"])
def test_a_span_is_refused_only_when_more_than_half_of_its_rows_have_no_usable_close(reason: str) -> None:
    series, _ = clean("AAPL", DAYS[10:20], good_rows(10))

    def history(*bad: date) -> PriceHistory:
        return PriceHistory(series, "test", defects=Defects(dropped={reason: np.array(bad, dtype="datetime64[D]")}))

    validate_completeness(history(*[DAYS[15]] * 10))
    validate_completeness(history(*[DAYS[5]] * 10, *[DAYS[25]] * 10))  # before and after what is used
    with pytest.raises(PricesInvalid, match=rf"11 of the 21 rows of AAPL .* have no usable close \({reason}: 11\)"):
        validate_completeness(history(*[DAYS[15]] * 11))


def test_rows_that_were_no_sessions_are_no_reason_to_refuse() -> None:
    series, _ = clean("AAPL", DAYS[:3], good_rows(3))
    many = np.array([DAYS[1]] * 50, dtype="datetime64[D]")

    validate_completeness(PriceHistory(series, "test", defects=Defects(dropped={"ghost": many, "duplicate": many})))


@pytest.mark.parametrize(
    ("closes", "why"), [([], "no rows at all"), ([np.nan, -1.0, -1.0], "missing: 1, not_positive: 2")]
)
def test_rows_without_any_usable_close_are_refused_with_the_counts(closes: list[float], why: str) -> None:
    rows = good_rows(len(closes))
    rows[:, CLOSE] = closes

    with pytest.raises(PricesInvalid, match=rf"no row of AAPL has a usable close \({why}\)"):
        clean("AAPL", DAYS[: len(closes)], rows)


def test_cleaning_leaves_the_rows_given_as_they_were() -> None:
    rows = good_rows(3)
    rows[0, VOLUME], rows[1, OPEN] = np.nan, -1.0

    clean("AAPL", DAYS[:3], rows)

    assert np.isnan(rows[0, VOLUME])
    assert rows[1, OPEN] == -1.0


def test_the_exchange_is_given_or_named_by_the_listing_or_implied_by_the_ticker() -> None:
    days = np.array(DAYS[:1], dtype="datetime64[D]")
    listed = RawBars(days, good_rows(1), "INR", Listing("NSI", "Asia/Kolkata", "INDEX"))

    explicit, _ = clean("^CNXIT", days, good_rows(1), exchange="XBOM")
    implied, _ = clean("PETR4.SA", days, good_rows(1), "BRL")
    series, _ = clean_raw("^CNXIT", listed)

    assert (explicit.exchange, implied.exchange, series.exchange) == ("XBOM", "BVMF", "XBOM")
    assert (implied.currency, series.currency) == ("BRL", "INR")
    with pytest.raises(UnknownExchange):
        clean("^CNXIT", days, good_rows(1))


def test_a_column_that_the_source_does_not_have_is_no_defect() -> None:
    rows = [(np.nan, 11.0, 9.0, 10.5, 1.0), (np.nan, 11.0, 10.0, 10.5, 1.0)]

    series, defects = clean("AAPL", DAYS[:2], rows)

    assert np.isnan(series.bars[:, OPEN]).all()
    assert defects.n_repaired == {}
