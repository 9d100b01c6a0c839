"""What windows for training forget."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base import Bars
from models.checked import trial_bars
from models.lstm.network import N_IMPLIED, N_MARKET
from models.lstm.samples import Hidden, ReturnWindows

LOOKBACK, HORIZON = 20, 3


@pytest.fixture
def bars() -> Bars:
    """Of a ticker whose exchange has an index and an implied volatility."""
    return trial_bars(300)


def channels(bars: Bars, hidden: Hidden | None) -> tuple[Tensor, Tensor]:
    """Those of the index and of its implied volatility, (n, lookback − 1, N_MARKET) and (…, N_IMPLIED)."""
    torch.manual_seed(0)
    windows = ReturnWindows([(bars, range(LOOKBACK - 1, 290))], LOOKBACK, HORIZON, hidden)
    sessions = windows.__getitems__(np.arange(len(windows))).sessions
    return sessions[..., -N_IMPLIED - N_MARKET : -N_IMPLIED], sessions[..., -N_IMPLIED:]


def test_a_window_without_implied_volatility_keeps_the_index(bars: Bars) -> None:
    whole_market, whole_implied = channels(bars, None)
    market, implied = channels(bars, Hidden(implied=1.0))

    assert (whole_implied[..., -1] == 1).all()
    assert (implied == 0).all()
    assert torch.equal(market, whole_market)


def test_a_window_without_a_market_has_no_implied_volatility(bars: Bars) -> None:
    market, implied = channels(bars, Hidden(market=1.0))

    assert (market == 0).all()
    assert (implied == 0).all()


def test_each_share_of_the_windows_is_drawn_by_itself(bars: Bars) -> None:
    market, implied = channels(bars, Hidden(market=0.5, implied=0.5))
    has_market, has_implied = market[:, 0, -1] == 1, implied[:, 0, -1] == 1

    n = len(has_market)
    assert 0.4 * n < int(has_market.sum()) < 0.6 * n
    assert 0.15 * n < int((has_market & has_implied).sum()) < 0.35 * n
    assert not (has_implied & ~has_market).any()
