import numpy as np
import pytest
import torch

from config import BUNDLED
from errors import ArtifactCorrupt
from models.base import IMPLIED_VOLATILITY, MARKET_OPEN, N_INPUTS, QUANTILE_GRID, with_columns
from models.checked import trial_bars
from models.fitting import NETWORK, WEIGHTS
from models.lstm.serialization import from_bytes, to_onnx
from models.runtime import OnnxForecaster
from models.windows import lookback_windows
from services.training.train import TrainedModel
from tests.fakes import random_walk


def test_a_network_rebuilt_from_its_weights_is_served_the_same(trained: TrainedModel) -> None:
    rebuilt = to_onnx(from_bytes(trained.files[WEIGHTS]))

    bars, origins = random_walk(300), np.arange(50, 300)
    again = OnnxForecaster(rebuilt, QUANTILE_GRID).predict_quantiles(bars, origins).prices
    first = OnnxForecaster(trained.files[NETWORK], QUANTILE_GRID).predict_quantiles(bars, origins).prices
    np.testing.assert_allclose(again, first, rtol=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_onnx_runtime_and_torch_agree(trained: TrainedModel, missing: bool) -> None:
    bars, origins = random_walk(300), np.arange(50, 300)
    if missing:
        bars[100:, :3] = np.nan
        bars[200:, 4] = np.nan
    network = from_bytes(trained.files[WEIGHTS])

    with torch.no_grad():
        windows = lookback_windows(with_columns(bars, N_INPUTS), origins, network.config.lookback)
        by_torch = network(torch.from_numpy(np.ascontiguousarray(windows))).numpy()

    served = OnnxForecaster(trained.files[NETWORK], QUANTILE_GRID).predict_quantiles(bars, origins).prices
    np.testing.assert_allclose(served, by_torch, rtol=1e-5)


@pytest.mark.parametrize("without", ["nothing", "market", "some prices"])
def test_the_bundled_network_rebuilt_from_its_weights_forecasts_as_it_was_stored(without: str) -> None:
    bars, origins = trial_bars(300), np.arange(100, 300)
    if without == "market":
        bars[:, MARKET_OPEN:] = np.nan
    if without == "some prices":
        bars[150::7, :3] = np.nan
        bars[200:, 4] = np.nan
        bars[220:, IMPLIED_VOLATILITY] = np.nan
    network = from_bytes((BUNDLED / WEIGHTS).read_bytes())

    with torch.no_grad():
        windows = lookback_windows(bars, origins, network.config.lookback)
        by_code = network(torch.from_numpy(np.ascontiguousarray(windows))).numpy()

    # bytes that no change of the code alters
    stored = OnnxForecaster((BUNDLED / NETWORK).read_bytes(), QUANTILE_GRID).predict_quantiles(bars, origins).prices
    np.testing.assert_allclose(by_code, stored, rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 64, b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_bytes_that_are_no_weights_are_corrupt(content: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        from_bytes(content)


@pytest.mark.parametrize("content", [b"", b"not onnx", b"\x00" * 64])
def test_bytes_that_are_no_network_are_corrupt(content: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        OnnxForecaster(content, QUANTILE_GRID)


def test_a_network_for_other_levels_is_corrupt(trained: TrainedModel) -> None:
    with pytest.raises(ArtifactCorrupt, match="expected a network from 5 or 10 columns to 3 levels"):
        OnnxForecaster(trained.files[NETWORK], (0.1, 0.5, 0.9))
