"""Fits of the original projects' networks: what they learn from, what they leave alone, what they write."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from errors import ArtifactCorrupt
from models.base import CLOSE, QUANTILE_GRID, Bars
from models.fitting import NETWORK, WEIGHTS, FitBlocks, FitProgress, FitSettings, FittedModel
from models.lstm.loop import InMemory, run_loop
from models.lstm.network import NetworkConfig, ReturnLSTM
from models.lstm.point_forecaster import fit_price_lstm, fit_ratio_lstm
from models.lstm.point_module import CloseBatch, PointModule
from models.lstm.point_networks import PointConfig, PointNetwork, PriceLSTM, RatioLSTM
from models.lstm.serialization import from_bytes, to_bytes, to_onnx
from models.runtime import OnnxForecaster
from models.windows import lookback_windows
from tests.fakes import random_walk

SETTINGS = FitSettings(lookback=10, horizon=5, max_epochs=1, patience=1, max_seconds=60, seed=0)
KINDS: dict[str, type[PointNetwork]] = {"price_lstm": PriceLSTM, "ratio_lstm": RatioLSTM}
MEDIAN = QUANTILE_GRID.index(0.5)


def blocks(bars: Bars) -> FitBlocks:
    return FitBlocks(bars, fit=range(9, 106), early_stopping=range(106, 130))  # 97 windows: the last batch would be one


def fit(model: str, series: Sequence[FitBlocks], settings: FitSettings = SETTINGS) -> FittedModel:
    fit_model = {"price_lstm": fit_price_lstm, "ratio_lstm": fit_ratio_lstm}[model]
    return fit_model(series, settings, lambda _: None)


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(model: str) -> FittedModel:
    return fit(model, [blocks(random_walk(200))])


def test_weights_survive_the_round_trip(model: str, fitted: FittedModel) -> None:
    network = from_bytes(fitted.files[WEIGHTS], KINDS[model])

    assert to_bytes(network) == fitted.files[WEIGHTS]


def test_weights_of_another_kind_are_refused_by_name(model: str, fitted: FittedModel) -> None:
    with pytest.raises(ArtifactCorrupt, match=f"expected the weights of a return_lstm, found those of a {model}"):
        from_bytes(fitted.files[WEIGHTS], ReturnLSTM)


def test_weights_that_name_no_kind_are_those_of_a_return_lstm() -> None:
    weights = to_bytes(ReturnLSTM(NetworkConfig(lookback=10, horizon=2)))

    assert b"kind" not in weights
    assert isinstance(from_bytes(weights), ReturnLSTM)


def test_onnx_runtime_and_torch_agree(model: str, fitted: FittedModel) -> None:
    bars, origins = random_walk(120, seed=1), np.arange(20, 120)
    network = from_bytes(fitted.files[WEIGHTS], KINDS[model])

    served = OnnxForecaster(fitted.files[NETWORK], fitted.quantile_levels).predict_quantiles(bars, origins).prices

    with torch.no_grad():
        windows = lookback_windows(bars, origins, network.config.lookback)
        by_torch = network(torch.from_numpy(np.ascontiguousarray(windows))).numpy()
    np.testing.assert_allclose(served, by_torch, rtol=1e-5)


def test_the_network_holds_its_weights_once_however_many_steps_it_is_served_for(model: str) -> None:
    network = KINDS[model](PointConfig(lookback=60, horizon=10)).eval()

    served = to_onnx(network)

    assert len(served) < 2 * len(to_bytes(network))
    assert len(served) < 1_000_000


def test_neither_other_columns_nor_what_follows_the_early_stopping_block_are_learned(
    model: str, fitted: FittedModel
) -> None:
    bars = random_walk(200)
    bars[131:] *= 7.0  # the last origin is 129, its target 130
    bars[:, [column for column in range(5) if column != CLOSE]] = np.nan

    again = fit(model, [blocks(bars)])

    assert again.files[WEIGHTS] == fitted.files[WEIGHTS]


def test_the_median_is_what_the_network_says(model: str, fitted: FittedModel) -> None:
    network = from_bytes(fitted.files[WEIGHTS], KINDS[model])

    assert (network.table[:, MEDIAN] == 0).all()
    assert (network.table.diff(dim=1) >= 0).all()
    assert (network.table[:, -1] > network.table[:, 0]).all()


def test_a_fit_continues_from_stored_weights(model: str, fitted: FittedModel) -> None:
    seen: list[FitProgress] = []
    exhausted = replace(SETTINGS, max_seconds=1e-9, start=fitted.files[WEIGHTS], on_progress=seen.append)

    continued = fit(model, [blocks(random_walk(200))], exhausted)

    assert continued.stopped_by == "max_seconds"
    assert continued.files[WEIGHTS] == fitted.files[WEIGHTS]
    assert {(one.fit, one.fits) for one in seen} == {(1, 1)}


def test_several_series_make_one_model_even_where_one_has_no_session_in_a_block(model: str) -> None:
    young = FitBlocks(random_walk(60, seed=3), fit=range(9, 9), early_stopping=range(9, 50))

    pooled = fit(model, [blocks(random_walk(200)), young])

    network = from_bytes(pooled.files[WEIGHTS], KINDS[model])
    assert torch.isfinite(network.table).all()


def test_a_fit_leaves_torchs_random_numbers_alone(model: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    fit(model, [blocks(random_walk(200))])

    torch.testing.assert_close(torch.rand(3), expected)


def test_the_target_is_the_session_right_after_the_window() -> None:
    """On closes that grow by 1 % a session a persistent network is off by that 1 %, not by 2 %."""
    bars = np.repeat(100 * 1.01 ** np.arange(200.0), 5).reshape(200, 5)

    fitted = fit("ratio_lstm", [blocks(bars)], replace(SETTINGS, horizon=1, max_epochs=60, patience=60))

    forecaster = OnnxForecaster(fitted.files[NETWORK], fitted.quantile_levels)
    next_close = forecaster.predict_quantiles(bars, np.array([150])).median[0, 0]
    assert next_close / bars[150, CLOSE] == pytest.approx(1.01, abs=0.005)


def test_l2_shrinks_the_kernels_that_keras_regularises() -> None:
    network = RatioLSTM(PointConfig(lookback=10, horizon=1)).eval()
    batch = CloseBatch(torch.ones(4, 10), torch.ones(4))
    with_l2 = PointModule(network, torch.nn.functional.huber_loss, learning_rate=1e-3, decay=1.0, l2=5e-4)

    with torch.no_grad():
        penalty = with_l2.training_step(batch, 0) - with_l2.validation_loss(batch)

    kernels = (network.first.weight_ih_l0, network.second.weight_ih_l0, network.dense.weight)
    expected = 5e-4 * sum(float(kernel.detach().square().sum()) for kernel in kernels)
    assert float(penalty) == pytest.approx(expected, rel=1e-4)


def test_the_learning_rate_decays_from_step_to_step() -> None:
    module = PointModule(
        PriceLSTM(PointConfig(lookback=10, horizon=1)),
        torch.nn.functional.mse_loss,
        learning_rate=1e-3,
        decay=0.5,
        l2=0.0,
    )
    adam = module.configure_optimizers()
    bounds = FitSettings(lookback=10, horizon=1, max_epochs=3, patience=3, max_seconds=60, seed=0)
    batch = CloseBatch(torch.rand(8, 10), torch.rand(8))
    module.configure_optimizers = lambda: adam  # type: ignore[method-assign]

    run_loop(module, InMemory(batch), None, batch_size=8, settings=bounds, on_epoch=lambda _: None)

    assert adam.param_groups[0]["lr"] == 1e-3 * 0.5**2  # the third step's
