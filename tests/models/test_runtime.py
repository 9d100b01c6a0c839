"""Networks in ONNX Runtime: batches, shapes, and the limits of a run."""

import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from config import BUNDLED
from errors import ArtifactCorrupt
from models import runtime
from models.base import QUANTILE_GRID
from models.fitting import NETWORK
from models.runtime import FEW, OnnxForecaster
from tests.fakes import random_walk
from tests.hostile_models import constant_network, hostile_networks, shaped, slow_networks, table

OURS = (BUNDLED / NETWORK).read_bytes()
BARS = random_walk(700)


def test_origins_of_several_batches_are_forecast_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "BATCH", 4)
    forecaster, origins = OnnxForecaster(OURS, QUANTILE_GRID), np.arange(600, 610)

    together = forecaster.predict_quantiles(BARS, origins)

    alone = [forecaster.predict_quantiles(BARS, origin).prices[0] for origin in origins[:, None]]
    np.testing.assert_allclose(together.prices, alone, rtol=1e-5)
    assert together.quantile_levels.tolist() == list(QUANTILE_GRID)


def test_the_first_run_and_those_of_many_windows_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limited, within_limit = [], OnnxForecaster._within_limit

    def counted(forecaster: OnnxForecaster, run: Callable[..., list[runtime._Prices]]) -> list[runtime._Prices]:
        limited.append(1)
        return within_limit(forecaster, run)

    monkeypatch.setattr(OnnxForecaster, "_within_limit", counted)
    forecaster = OnnxForecaster(constant_network(table()), QUANTILE_GRID)

    counts = []
    for n_windows in (1, 1, FEW, FEW + 1):
        forecaster.predict_quantiles(BARS, np.arange(600, 600 + n_windows))
        counts.append(len(limited))

    assert counts == [1, 1, 1, 2]


@pytest.mark.parametrize("shape", [(0, 2, 3), (0, 1, 1), (7, 30, 105), (-1, 30, 105)])
def test_prices_of_another_shape_are_corrupt(shape: tuple[int, int, int]) -> None:
    forecaster = OnnxForecaster(shaped(*shape), QUANTILE_GRID)

    with pytest.raises(ArtifactCorrupt, match=r"expected prices of shape \(2, 30, 105\) from the network"):
        forecaster.predict_quantiles(BARS, np.array([600, 601]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a number in", "expected one input"),
        ("two inputs", "expected one input"),
        ("a lookback of zero", "expected one input"),
        ("one window only", "expected one input"),
        ("single floats in", "expected one input"),
        ("two outputs", "expected one output"),
        ("prices of shape ['batch', 30]", "expected one output"),
        ("an unknown input", "not readable as ONNX"),
    ],
)
def test_a_network_with_other_ports_is_corrupt(name: str, message: str) -> None:
    with pytest.raises(ArtifactCorrupt, match=message):
        OnnxForecaster(dict(hostile_networks(OURS))[name], QUANTILE_GRID)


def test_a_network_that_does_not_run_is_corrupt() -> None:
    forecaster = OnnxForecaster(shaped(-100, 30, 105), QUANTILE_GRID)

    with pytest.raises(ArtifactCorrupt, match="does not run"):
        forecaster.predict_quantiles(BARS, np.array([600]))


def test_a_run_that_takes_too_long_is_given_up_and_its_network_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "RUN_LIMIT_S", 0.3)
    _, slow = next(slow_networks())
    forecaster, began = OnnxForecaster(slow, QUANTILE_GRID), time.monotonic()

    with pytest.raises(ArtifactCorrupt, match=r"took more than 0\.3 s"):
        forecaster.predict_quantiles(BARS, np.array([600]))

    assert time.monotonic() - began < 60  # it takes minutes
    with pytest.raises(ArtifactCorrupt, match=r"took more than 0\.3 s"):
        OnnxForecaster(slow, QUANTILE_GRID)


def test_a_signal_that_ends_the_wait_for_a_run_ends_the_run_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends meanwhile, as that of a cancelled job does, would crash."""

    class Interrupted(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    monkeypatch.setattr(runtime, "RUN_LIMIT_S", 3600.0)
    monkeypatch.setattr(runtime, "ENDS_WITHIN_S", 60.0)
    monkeypatch.setattr(runtime, "_too_slow", {})
    _, slow = next(slow_networks())
    forecaster = OnnxForecaster(slow, QUANTILE_GRID)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(Interrupted):
            forecaster.predict_quantiles(BARS, np.array([600]))
        for thread in [one for one in threading.enumerate() if one.name == "onnx_run"]:
            thread.join(10)  # it takes minutes where nothing ends it
            assert not thread.is_alive()
    finally:
        signal.signal(signal.SIGALRM, before)
