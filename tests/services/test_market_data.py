"""Daily prices as a caller asks for them."""

from datetime import UTC, date, datetime

import pytest

from errors import InsufficientHistory
from schemas.fetch_data import FetchDataRequest
from services.market_data import fetch_data
from tests.fakes import FakePriceSource, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HISTORY = walk_history()
PRICES = FakePriceSource(HISTORY)


def test_days_are_the_most_recent_sessions() -> None:
    answer = fetch_data(FetchDataRequest(ticker="WALK", days=3), PRICES, NOW)

    assert [bar.Close for bar in answer.data] == HISTORY.series.close[-3:].tolist()


def test_a_range_includes_both_its_ends() -> None:
    start, end = date(2010, 1, 5), date(2010, 1, 7)

    answer = fetch_data(FetchDataRequest(ticker="WALK", start_date=start, end_date=end), PRICES, NOW)

    assert [bar.Date for bar in answer.data] == [start, date(2010, 1, 6), end]
    assert answer.as_of == end


def test_a_range_without_a_session_is_refused() -> None:
    weekend = FetchDataRequest(ticker="WALK", start_date=date(2010, 1, 9), end_date=date(2010, 1, 10))

    with pytest.raises(InsufficientHistory):
        fetch_data(weekend, PRICES, NOW)
