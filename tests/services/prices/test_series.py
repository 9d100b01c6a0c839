from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from errors import TickerNotFound
from services.prices.cleaning import clean
from services.prices.series import Defects, PriceHistory, PriceSeries, Sessions, validate_ticker
from tests.values import assert_values

DAYS = [date(2024, 1, 1) + timedelta(days=day) for day in range(40)]


def series_of(count: int) -> PriceSeries:
    rows: NDArray[np.float64] = np.tile((10.0, 11.0, 9.0, 10.5, 100.0), (count, 1))
    return clean("AAPL", DAYS[:count], rows, "USD")[0]


def days(*found: date) -> Sessions:
    return np.array(found, dtype="datetime64[D]")


def test_series_cannot_be_altered() -> None:
    series = series_of(3)

    with pytest.raises(ValueError, match="read-only"):
        series.close[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        series.where(np.array([True, False, True])).close[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        series.with_target("Open").close[0] = 1.0


def test_between_includes_both_ends() -> None:
    part = series_of(10).between(DAYS[2], DAYS[4])

    assert (part.first_session, part.last_session, len(part)) == (DAYS[2], DAYS[4], 3)
    assert (part.ticker, part.exchange, part.currency) == ("AAPL", "XNYS", "USD")


def test_tail_longer_than_the_series_is_all_of_it() -> None:
    series = series_of(10)

    assert len(series.tail(3)) == 3
    assert len(series.tail(99)) == 10
    assert len(series.tail(0)) == 0


def test_a_mask_chooses_the_sessions() -> None:
    kept = series_of(3).where(np.array([True, False, True]))

    assert kept.sessions.tolist() == [DAYS[0], DAYS[2]]
    assert kept.bars.shape == (2, 5)


@pytest.mark.parametrize("column", ["Close", "Adj Close"])
def test_the_series_of_the_close_is_the_series_itself(column: str) -> None:
    series = series_of(3)

    assert series.with_target(column) is series


def test_another_target_takes_the_place_of_the_close_and_leaves_out_where_it_is_unknown() -> None:
    rows = [(10.0, 11.0, 9.0, 10.5, 1.0), (0.0, 11.0, 9.0, 10.5, 2.0), (10.2, 11.0, 9.0, 10.5, 3.0)]
    series, _ = clean("AAPL", DAYS[:3], rows)

    opens = series.with_target("Open")

    assert opens.sessions.tolist() == [DAYS[0], DAYS[2]]
    assert opens.close.tolist() == [10.0, 10.2]
    assert np.isnan(opens.bars[:, :3]).all()
    assert opens.bars[:, 4].tolist() == [1.0, 3.0]


def test_defects_are_counted_by_reason_and_cut_to_a_span() -> None:
    defects = Defects(dropped={"missing": days(DAYS[0], DAYS[5])}, repaired={"open": days(DAYS[9])})

    more = defects.with_dropped("ghost", days(DAYS[7])).with_dropped("missing", days(DAYS[6]))

    assert more.n_dropped == {"missing": 3, "ghost": 1}
    assert more.within(DAYS[5], DAYS[6]).n_dropped == {"missing": 2}
    assert (more.n_repaired, more.within(DAYS[5], DAYS[6]).n_repaired) == ({"open": 1}, {})
    assert defects.with_dropped("ghost", days()) is defects


def test_a_history_counts_the_defects_of_all_that_its_source_supplied() -> None:
    defects = Defects(dropped={"missing": days(DAYS[0])}, repaired={"high": days(DAYS[1], DAYS[2])})
    history = PriceHistory(series_of(10), "yahoo", defects=defects)

    part = history.tail(2)

    assert (part.dropped, part.repaired) == ({"missing": 1}, {"high": 2})


def test_a_stale_history_is_not_stale_before_its_end() -> None:
    history = PriceHistory(series_of(10), "csv", stale=True)

    assert history.between(None, None).stale
    assert history.between(None, DAYS[10]).stale
    assert not history.between(None, DAYS[9]).stale  # what ends where it was asked to lacks nothing
    assert not replace(history, stale=False).between(None, DAYS[20]).stale


def test_sample_prices_are_a_demonstration() -> None:
    assert PriceHistory(series_of(1), "sample").demo is True
    assert PriceHistory(series_of(1), "csv").demo is False


@pytest.mark.parametrize("ticker", ["AAPL", "PETR4.SA", "^GSPC", "BTC-USD", "EURUSD=X", "M&M.NS", "0700.HK"])
def test_real_symbols_are_tickers(ticker: str) -> None:
    assert validate_ticker(ticker) == ticker


@pytest.mark.parametrize("ticker", ["", ".", "..", "../etc/passwd", "A/B", "A\\B", "A\n", "A%2F", "A?b", "A" * 30, "é"])
def test_what_means_something_in_a_path_or_an_address_is_no_ticker(ticker: str) -> None:
    with pytest.raises(TickerNotFound):
        validate_ticker(ticker)


def test_values_are_immutable_and_arrays_are_not_compared() -> None:
    assert_values("services.prices")
