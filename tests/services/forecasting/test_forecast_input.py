"""What a forecast uses of a history."""

from datetime import date

import numpy as np
import pytest

from errors import InsufficientHistory, ZeroVariance
from services.forecasting.forecast_input import input_from_history
from services.prices.cleaning import clean
from services.prices.series import PriceHistory
from tests.fakes import new_york_sessions, random_walk, walk_history

HISTORY = walk_history(n_sessions=100)


def test_the_newest_sessions_and_those_that_follow_are_found_once() -> None:
    recent = input_from_history(HISTORY, "Close", count=30, lookback=10, horizon=3)

    assert np.array_equal(recent.bars, HISTORY.series.bars[-30:])
    assert recent.sessions == tuple(new_york_sessions(103)[-3:].tolist())
    assert recent.last_value == recent.last_close == HISTORY.series.close[-1]
    assert not any(recent.estimated)
    assert input_from_history(HISTORY, "Close", count=30, lookback=10, horizon=3) is recent


def test_the_origin_is_the_last_session_with_a_known_target() -> None:
    bars = random_walk(100)
    bars[-2:, 0] = np.nan
    series, defects = clean("WALK", new_york_sessions(100), bars)

    recent = input_from_history(PriceHistory(series, "fake", defects=defects), "Open", count=30, lookback=10, horizon=1)

    assert recent.history.as_of == series.sessions[-3].item()
    assert recent.sessions == (series.sessions[-2].item(),)
    assert (recent.last_value, recent.last_close) == (bars[-3, 0], bars[-3, 3])


def test_sessions_past_the_calendar_are_marked_and_warned_about() -> None:
    days = np.array([date(2026, 12, 29), date(2026, 12, 30)], dtype="datetime64[D]")
    series, defects = clean("TCS.NS", days, random_walk(2))

    recent = input_from_history(PriceHistory(series, "fake", defects=defects), "Close", count=2, lookback=2, horizon=2)

    assert recent.estimated == (False, True)
    assert "sessions after 2026-12-31 are estimated" in recent.warnings[-1]


@pytest.mark.parametrize(
    ("history", "error"),
    [
        (HISTORY.tail(9), InsufficientHistory),
        (PriceHistory(clean("WALK", new_york_sessions(20), np.full((20, 5), 7.0))[0], "fake"), ZeroVariance),
    ],
)
def test_prices_that_no_model_can_use_are_refused(history: PriceHistory, error: type[Exception]) -> None:
    with pytest.raises(error):
        input_from_history(history, "Close", count=30, lookback=10, horizon=1)
