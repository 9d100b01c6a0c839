from datetime import UTC, date, datetime

import pytest

from errors import InsufficientHistory
from schemas.fetch_data import FetchDataRequest
from services.market_data import fetch_data
from services.prices.cleaning import clean
from services.prices.series import PriceHistory
from tests.fakes import FakePriceSource, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HISTORY = walk_history()
PRICES = FakePriceSource(HISTORY)


def test_a_range_includes_both_its_ends() -> None:
    start, end = date(2010, 1, 5), date(2010, 1, 7)

    answer = fetch_data(FetchDataRequest(ticker="WALK", start_date=start, end_date=end), PRICES, NOW)

    assert [bar.Date for bar in answer.data] == [start, date(2010, 1, 6), end]
    assert answer.as_of == end


def test_a_range_without_a_session_is_refused() -> None:
    weekend = FetchDataRequest(ticker="WALK", start_date=date(2010, 1, 9), end_date=date(2010, 1, 10))

    with pytest.raises(InsufficientHistory):
        fetch_data(weekend, PRICES, NOW)


def test_an_unknown_price_of_a_session_is_null() -> None:
    rows = [[1.0, 2.0, 0.5, 1.5, 10.0], [float("nan"), 900.0, 1.0, 1.6, 10.0]]
    series, defects = clean("AAPL", [date(2010, 1, 4), date(2010, 1, 5)], rows, "USD")
    prices = FakePriceSource(PriceHistory(series, "fake", defects=defects))

    answer = fetch_data(FetchDataRequest(ticker="AAPL", days=2), prices, NOW)

    whole, partial = answer.data
    assert (whole.Open, whole.High, whole.Low, whole.Close, whole.Volume) == (1.0, 2.0, 0.5, 1.5, 10.0)
    assert (partial.Open, partial.High, partial.Low, partial.Close) == (None, None, 1.0, 1.6)
    assert answer.repaired == {"open": 1, "high": 1}
    assert '"High":null' in answer.model_dump_json()
