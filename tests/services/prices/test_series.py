from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from errors import PricesInvalid, TickerNotFound
from services.prices.series import COLUMNS, MAX_BAD_SHARE, PriceSeries, clean, require_ticker, to_date

DAYS = [date(2024, 1, 1) + timedelta(days=day) for day in range(40)]
GOOD_ROW = (10.0, 11.0, 9.0, 10.5, 100.0)

prices = st.floats(min_value=1e-6, max_value=1e9)
any_number = st.floats(allow_nan=True, allow_infinity=True)


def good_rows(count: int) -> NDArray[np.float64]:
    return np.tile(GOOD_ROW, (count, 1))


@st.composite
def raw_rows(draw: st.DrawFn, cell: st.SearchStrategy[float]) -> tuple[list[date], NDArray[np.float64]]:
    days = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=40))
    cells = draw(st.lists(cell, min_size=5 * len(days), max_size=5 * len(days)))
    return days, np.array(cells).reshape(-1, 5)


def assert_valid(series: PriceSeries) -> None:
    prices, volume = series.bars[:, :4], series.bars[:, 4]
    assert len(series) > 0
    assert (np.diff(series.sessions) > np.timedelta64(0, "D")).all()
    assert np.isfinite(series.bars).all()
    assert (prices > 0).all()
    assert (volume >= 0).all()
    assert (prices.max(axis=1) == prices[:, 1]).all()
    assert (prices.min(axis=1) == prices[:, 2]).all()


@given(raw_rows(any_number))
def test_clean_gives_a_valid_series_or_refuses(raw: tuple[list[date], NDArray[np.float64]]) -> None:
    days, rows = raw

    try:
        series, _ = clean("AAPL", days, rows)
    except PricesInvalid:
        return

    assert_valid(series)


@given(raw_rows(prices))
def test_clean_keeps_each_day_of_positive_rows_and_is_idempotent(raw: tuple[list[date], NDArray[np.float64]]) -> None:
    days, rows = raw

    series, _ = clean("AAPL", days, rows)
    again, report = clean("AAPL", series.sessions, series.bars)

    assert [to_date(session) for session in series.sessions] == sorted(set(days))
    assert np.array_equal(again.bars, series.bars)
    assert report == {}


@given(raw_rows(prices), st.floats(0.5, 100.0))
def test_cleaning_scaled_prices_scales_the_cleaned_prices(
    raw: tuple[list[date], NDArray[np.float64]], factor: float
) -> None:
    days, rows = raw

    series, _ = clean("AAPL", days, rows)
    scaled, _ = clean("AAPL", days, rows * factor)

    assert np.allclose(scaled.bars, series.bars * factor)


@given(raw_rows(prices), st.randoms(use_true_random=False))
def test_order_of_distinct_days_does_not_matter(raw: tuple[list[date], NDArray[np.float64]], random: object) -> None:
    days, rows = raw
    assume(len(set(days)) == len(days))
    order = list(range(len(days)))
    random.shuffle(order)  # type: ignore[attr-defined]

    series, _ = clean("AAPL", days, rows)
    shuffled, _ = clean("AAPL", [days[row] for row in order], rows[order])

    assert np.array_equal(shuffled.bars, series.bars)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("Close", np.nan, "missing"),
        ("Open", np.inf, "missing"),
        ("Low", 0.0, "not_positive"),
        ("High", -1.0, "not_positive"),
        ("Volume", -5.0, "negative_volume"),
    ],
)
def test_bad_row_is_dropped_and_reported(column: str, value: float, reason: str) -> None:
    rows = good_rows(20)
    rows[7, COLUMNS.index(column)] = value

    series, report = clean("AAPL", DAYS[:20], rows)

    assert len(series) == 19
    assert np.datetime64(DAYS[7]) not in series.sessions
    assert report == {reason: 1}


def test_missing_volume_counts_as_zero() -> None:
    rows = good_rows(2)
    rows[0, 4] = np.nan

    series, report = clean("AAPL", DAYS[:2], rows)

    assert series.bars[0, 4] == 0.0
    assert report == {}


def test_of_two_rows_of_a_day_the_last_counts() -> None:
    rows = good_rows(3)
    rows[2, 3] = 10.9

    series, report = clean("AAPL", [DAYS[0], DAYS[1], DAYS[1]], rows)

    assert series.close.tolist() == [10.5, 10.9]
    assert report == {"duplicated": 1}


def test_high_and_low_are_widened_to_enclose_the_close() -> None:
    series, report = clean("AAPL", DAYS[:1], [(10.0, 10.0, 10.0, 12.0, 1.0)])

    assert series.bars[0].tolist() == [10.0, 12.0, 10.0, 12.0, 1.0]
    assert report == {"range_widened": 1}


def test_exactly_a_tenth_of_bad_rows_is_accepted_and_one_more_refused() -> None:
    rows = good_rows(20)
    rows[: int(20 * MAX_BAD_SHARE), 3] = np.nan
    worse = rows.copy()
    worse[10, 3] = np.nan

    series, _ = clean("AAPL", DAYS[:20], rows)

    assert len(series) == 18
    with pytest.raises(PricesInvalid, match="17 of 20 rows of AAPL"):
        clean("AAPL", DAYS[:20], worse)


def test_no_rows_at_all_are_refused() -> None:
    with pytest.raises(PricesInvalid, match="no rows at all"):
        clean("AAPL", [], [])


def test_series_cannot_be_altered() -> None:
    series, _ = clean("AAPL", DAYS[:3], good_rows(3))

    with pytest.raises(ValueError, match="read-only"):
        series.close[0] = 1.0


def test_cleaning_leaves_the_rows_given_as_they_were() -> None:
    rows = good_rows(3)
    rows[0, 4] = np.nan

    clean("AAPL", DAYS[:3], rows)

    assert np.isnan(rows[0, 4])


def test_between_includes_both_ends() -> None:
    series, _ = clean("AAPL", DAYS[:10], good_rows(10))

    part = series.between(DAYS[2], DAYS[4])

    assert (part.first_session, part.last_session, len(part)) == (DAYS[2], DAYS[4], 3)


def test_tail_longer_than_the_series_is_all_of_it() -> None:
    series, _ = clean("AAPL", DAYS[:10], good_rows(10))

    assert len(series.tail(3)) == 3
    assert len(series.tail(99)) == 10
    assert len(series.tail(0)) == 0


@pytest.mark.parametrize("ticker", ["AAPL", "PETR4.SA", "^GSPC", "BTC-USD", "EURUSD=X", "M&M.NS", "0700.HK"])
def test_real_symbols_are_tickers(ticker: str) -> None:
    assert require_ticker(ticker) == ticker


@pytest.mark.parametrize("ticker", ["", ".", "..", "../etc/passwd", "A/B", "A\\B", "A\n", "A%2F", "A?b", "A" * 30, "é"])
def test_what_means_something_in_a_path_or_an_address_is_no_ticker(ticker: str) -> None:
    with pytest.raises(TickerNotFound):
        require_ticker(ticker)


def test_the_largest_price_there_is_overflows_nothing() -> None:
    largest = np.finfo(np.float64).max

    series, report = clean("X", [date(2024, 1, 1)], [[1.0, largest, 1.0, 1.0, 0.0]])

    assert series.bars[0, 1] == largest
    assert report == {}
