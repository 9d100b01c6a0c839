"""The original projects' networks: their size, their scale, their dropout, and how they reach further than one step."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.base import CLOSE, QUANTILE_GRID
from models.lstm.point_networks import PointConfig, PointNetwork, PriceLSTM, RatioLSTM, step_volatility
from tests.fakes import random_walk

CONFIG = PointConfig(lookback=12, horizon=4)
BOTH = pytest.mark.parametrize("kind", [PriceLSTM, RatioLSTM])

walks = st.builds(random_walk, n_sessions=st.just(12), seed=st.integers(0, 10_000), start=st.floats(0.01, 1e5))


def closes_of(bars: np.ndarray) -> Tensor:
    return torch.from_numpy(bars[None, :, CLOSE].copy())


def network_of(kind: type[PointNetwork]) -> PointNetwork:
    torch.manual_seed(0)
    return kind(CONFIG).eval()


class LastPlusFirst(PointNetwork):
    """Scaled by nothing; the next close is the last one and the first of the window."""

    def scale(self, closes: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        raise NotImplementedError

    def next_scaled(self, windows: Tensor) -> Tensor:
        raise NotImplementedError

    def next_close(self, closes: Tensor) -> Tensor:
        return closes[:, -1:] + closes[:, :1]


def n_elements(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def test_ratio_lstm_has_the_parameters_that_keras_counts_and_torchs_idle_second_bias() -> None:
    network = RatioLSTM(CONFIG)

    trained = n_elements([p for p in network.parameters() if p.requires_grad])
    frozen = n_elements([p for p in network.parameters() if not p.requires_grad])
    moving_averages = n_elements([network.norm.running_mean, network.norm.running_var])  # type: ignore[list-item]
    assert moving_averages == 128  # buffers here, non-trainable parameters to Keras
    assert trained + moving_averages == 118_337
    assert frozen == 4 * 128 + 4 * 64


def test_price_lstm_has_two_layers_of_64_and_one_linear_unit() -> None:
    network = PriceLSTM(CONFIG)

    layers = 4 * 64 * (1 + 64 + 2) + 4 * 64 * (64 + 64 + 2)  # torch's two biases per gate
    assert n_elements(list(network.parameters())) == layers + 64 + 1
    assert network.lstm.dropout == 0.2


def test_the_idle_biases_are_zero_and_get_no_gradient() -> None:
    network = RatioLSTM(CONFIG).train()

    network.next_scaled(torch.ones(3, CONFIG.lookback)).sum().backward()  # type: ignore[no-untyped-call]

    for lstm in (network.first, network.second):
        assert not lstm.bias_hh_l0.any()
        assert lstm.bias_hh_l0.grad is None
        assert lstm.bias_ih_l0.grad is not None


@pytest.mark.parametrize(("kind", "scaled"), [(PriceLSTM, [0.5, 0.0, 1.0]), (RatioLSTM, [1.0, 0.5, 1.5])])
def test_the_scale_is_the_windows_minimum_and_maximum_or_its_first_close(
    kind: type[PointNetwork], scaled: list[float]
) -> None:
    closes = torch.tensor([[20.0, 10.0, 30.0]], dtype=torch.float64)

    scale = network_of(kind).scale(closes)

    assert ((closes - scale.offset) / scale.unit).tolist() == [scaled]


@BOTH
def test_a_window_that_never_moves_has_a_scale(kind: type[PointNetwork]) -> None:
    closes = torch.full((1, CONFIG.lookback), 5.0, dtype=torch.float64)

    forecast = network_of(kind).path(closes)

    assert torch.isfinite(forecast).all()
    assert (forecast > 0).all()


def test_a_path_feeds_forecasts_back_and_forgets_the_oldest_close() -> None:
    closes = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)

    path = LastPlusFirst(PointConfig(lookback=3, horizon=4)).path(closes)

    # 3 + 1, 4 + 2, 6 + 3, 9 + 4
    assert path.tolist() == [[4.0, 6.0, 9.0, 13.0]]


@BOTH
@given(bars=walks)
@settings(max_examples=10, deadline=None)
def test_every_step_of_a_path_is_the_next_close_of_a_window_that_slid(
    kind: type[PointNetwork], bars: np.ndarray
) -> None:
    network, window = network_of(kind), closes_of(bars)

    path = network.path(window)

    for h in range(CONFIG.horizon):
        step = network.next_close(window)
        torch.testing.assert_close(path[:, h : h + 1], step, rtol=1e-9, atol=0.0)
        window = torch.cat([window, step], dim=1)[:, -CONFIG.lookback :]


@BOTH
def test_a_network_gone_wild_still_states_prices(kind: type[PointNetwork]) -> None:
    network = network_of(kind)
    torch.nn.init.constant_(network.get_parameter("head.bias"), -1e6)

    path = network.path(closes_of(random_walk(12)))

    assert (path > 0).all()


@BOTH
def test_the_path_is_the_median_when_the_table_is_centred(kind: type[PointNetwork]) -> None:
    network, bars = network_of(kind), random_walk(12)
    network.table.copy_(torch.linspace(-2.0, 2.0, len(QUANTILE_GRID), dtype=torch.float64).expand_as(network.table))

    prices = network(torch.from_numpy(bars[None]))

    torch.testing.assert_close(prices[..., len(QUANTILE_GRID) // 2], network.path(closes_of(bars)))


def test_step_volatility_is_the_windows_own_times_the_root_of_the_step() -> None:
    closes = torch.exp(torch.tensor([[0.0, 0.01, 0.0, 0.01]], dtype=torch.float64))  # returns 1 %, −1 %, 1 %

    volatility = step_volatility(closes, horizon=4)

    daily = np.std([0.01, -0.01, 0.01], ddof=1)
    np.testing.assert_allclose(volatility.numpy(), [[daily, daily * 2**0.5, daily * 3**0.5, daily * 2]])


def test_a_window_that_never_moves_still_gets_a_spread() -> None:
    volatility = step_volatility(torch.full((1, 5), 7.0, dtype=torch.float64), horizon=1)

    assert volatility.item() == pytest.approx(1e-4)


def test_recurrent_dropout_hides_whole_units_in_training_only() -> None:
    network = RatioLSTM(CONFIG)
    windows = torch.linspace(0.9, 1.1, CONFIG.lookback).expand(2, -1)[..., None]

    with torch.no_grad():
        served = network.eval().first.states(windows)
        torch.manual_seed(0)
        trained = network.train().first.states(windows)

    torch.testing.assert_close(served, network.first(windows)[0])
    torch.testing.assert_close(trained[0], trained[1])  # one mask for the whole batch
    torch.testing.assert_close(trained[:, 0], served[:, 0])  # nothing is fed back to the first session
    assert not torch.allclose(trained[:, -1], served[:, -1])
