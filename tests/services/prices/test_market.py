"""The market of an exchange, aligned by date to the sessions of its tickers."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from errors import PricesUnreachable
from models.base import IMPLIED_VOLATILITY, MARKET_CLOSE, MARKET_OPEN, N_INPUTS
from services.prices.exchanges import _BY_CODE, _BY_SUFFIX
from services.prices.market import MARKETS, MarketAwareSource
from services.prices.series import Market, PriceHistory, PriceSource
from tests.fakes import FakePriceSource, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)


def without(history: PriceHistory, first: int, stop: int) -> PriceHistory:
    """The history without some of its sessions."""
    kept = np.ones(len(history.series), dtype=bool)
    kept[first:stop] = False
    return replace(history, series=history.series.where(kept))


class Unreachable:
    """Knows one ticker, and counts how often it fails for others."""

    def __init__(self, history: PriceHistory) -> None:
        self.failures = 0
        self._history = history

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        if ticker == self._history.series.ticker:
            return self._history
        self.failures += 1
        raise PricesUnreachable("down")


def served(*histories: PriceHistory) -> PriceHistory:
    source: PriceSource = MarketAwareSource(FakePriceSource(walk_history(), *histories))
    return source.history("WALK", NOW)


def test_bars_of_index_and_implied_volatility_stand_at_the_same_sessions() -> None:
    index, implied = walk_history("^GSPC", seed=1), walk_history("^VIX", seed=2)

    inputs = served(index, implied).inputs

    assert inputs.shape == (500, N_INPUTS)
    np.testing.assert_array_equal(inputs[:, MARKET_OPEN : MARKET_CLOSE + 1], index.series.bars[:, :4])
    np.testing.assert_array_equal(inputs[:, IMPLIED_VOLATILITY], implied.series.close)


def test_a_part_of_the_history_has_its_part_of_the_market() -> None:
    whole = served(walk_history("^GSPC", seed=1), walk_history("^VIX", seed=2))

    part = whole.between(date(2011, 1, 1), date(2011, 6, 30)).tail(60)

    rows = np.searchsorted(whole.series.sessions, part.series.sessions)
    np.testing.assert_array_equal(part.inputs, whole.inputs[rows])


def test_no_session_sees_a_later_one() -> None:
    index = walk_history("^GSPC", seed=1)
    changed = index.series.bars.copy()
    changed[300:] *= 2

    before = served(index).inputs
    after = served(replace(index, series=replace(index.series, bars=changed))).inputs

    np.testing.assert_array_equal(before[:300], after[:300])
    assert (before[300:, MARKET_CLOSE] != after[300:, MARKET_CLOSE]).all()


def test_a_missing_session_repeats_the_close_without_a_range_and_a_long_gap_is_unknown() -> None:
    index = walk_history("^GSPC", seed=1)

    inputs = served(without(index, 200, 203)).inputs
    late = served(without(index, 200, 300)).inputs

    np.testing.assert_array_equal(inputs[200:203, MARKET_CLOSE], index.series.close[[199] * 3])
    assert np.isnan(inputs[200:203, MARKET_OPEN:MARKET_CLOSE]).all()
    assert np.isnan(late[210:300, MARKET_CLOSE]).all()
    assert not np.isnan(late[300:, MARKET_CLOSE]).any()


def test_a_flat_bar_of_the_index_has_no_range() -> None:
    index = walk_history("^GSPC", seed=1)
    bars = index.series.bars.copy()
    bars[100, :4] = bars[100, 3]
    bars[101, :4] = bars[101, 3] * np.array([1, 1 + 5e-7, 1 - 4e-7, 1])  # rounding of an adjustment
    bars[102, :4] = bars[102, 3] * np.array([1, 1 + 2e-6, 1, 1])

    inputs = served(replace(index, series=replace(index.series, bars=bars))).inputs

    assert np.isnan(inputs[100:102, MARKET_OPEN:MARKET_CLOSE]).all()
    np.testing.assert_array_equal(inputs[100:103, MARKET_CLOSE], bars[100:103, 3])
    np.testing.assert_array_equal(inputs[102, MARKET_OPEN:MARKET_CLOSE], bars[102, :3])


def test_an_index_is_its_own_market() -> None:
    index = walk_history("^GSPC", seed=1)

    history = MarketAwareSource(FakePriceSource(index)).history("^GSPC", NOW)

    np.testing.assert_array_equal(history.inputs[:, MARKET_CLOSE], index.series.close)


@pytest.mark.parametrize("index_of", [None, "other source", "other exchange"])
def test_without_its_index_a_history_is_served_as_it_is(index_of: str | None) -> None:
    history, index = walk_history(), walk_history("^GSPC", seed=1)
    if index_of == "other source":
        index = replace(index, source="sample")
    if index_of == "other exchange":
        history = replace(history, series=replace(history.series, exchange="24/7"))
    known = () if index_of is None else (index,)

    found = MarketAwareSource(FakePriceSource(history, *known)).history("WALK", NOW)

    assert found is history
    assert found.inputs is history.series.bars


def test_the_same_histories_give_the_same_object() -> None:
    source = MarketAwareSource(FakePriceSource(walk_history(), walk_history("^GSPC", seed=1)))

    assert source.history("WALK", NOW) is source.history("WALK", NOW)


def test_a_few_more_sessions_of_the_index_are_fetched_than_of_the_ticker() -> None:
    wanted: list[tuple[str, int | None]] = []

    class Recording(FakePriceSource):
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            wanted.append((ticker, recent))
            return super().history(ticker, now, recent)

    source = MarketAwareSource(Recording(walk_history(), walk_history("^GSPC", seed=1), walk_history("^VIX", seed=2)))
    source.history("WALK", NOW, recent=60)
    source.history("WALK", NOW)

    assert wanted == [
        *[("WALK", 60), ("^GSPC", 80), ("^VIX", 80)],
        *[("WALK", None), ("^GSPC", None), ("^VIX", None)],
    ]


def test_the_newest_session_of_the_market_is_that_of_its_index() -> None:
    market = served(walk_history("^GSPC", seed=1)).market
    assert market is not None
    first, second = (day.item() for day in market.index.sessions[:2])

    assert market.as_of(second) == second
    assert market.as_of(second - timedelta(days=1)) == first
    assert market.as_of(first - timedelta(days=1)) is None


def test_the_last_close_of_the_index_stands_for_ten_days() -> None:
    index, implied = walk_history("^GSPC", seed=1).series, walk_history("^VIX", seed=2).series
    later = index.sessions[-1] + np.arange(9, 12)

    columns = Market(index, implied).at(later)

    np.testing.assert_array_equal(columns[:, 3], [index.close[-1], index.close[-1], np.nan])
    np.testing.assert_array_equal(columns[:, 4], [implied.close[-1], implied.close[-1], np.nan])
    assert np.isnan(Market(index, implied).at(index.sessions[:1] - 1)).all()


def test_an_unreachable_index_is_not_asked_for_again_at_once() -> None:
    source = Unreachable(walk_history())
    aware = MarketAwareSource(source)

    for _ in range(3):
        assert aware.history("WALK", NOW).market is None

    assert source.failures == 2  # the index and its implied volatility, once each


def test_every_market_belongs_to_a_calendar_that_tickers_have() -> None:
    assert set(MARKETS) <= {*_BY_SUFFIX.values(), *_BY_CODE.values()}
