"""What every forecaster does: shape, ordered quantiles, no look-ahead, no scale of its own."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.base import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, Forecaster
from models.baselines.persistence import Persistence
from models.conformal import CalibratedForecaster
from models.fitting import NETWORK, FitBlocks, FitSettings
from models.runtime import OnnxForecaster
from models.specs import MODEL_SPECS
from services.storage.registry import CALIBRATION, calibration_from_json
from services.training.train import TrainedModel
from tests.fakes import FixedForecaster, random_walk


def _served(trained: TrainedModel) -> Forecaster:
    return OnnxForecaster(trained.files[NETWORK], trained.card.quantile_levels)


def _fitted(model: str, horizon: int = 30) -> Forecaster:
    bars = random_walk(600)
    bounds = FitSettings(lookback=60, horizon=horizon, max_epochs=1, patience=1, max_seconds=60, seed=0)
    fitted = MODEL_SPECS[model].fit([FitBlocks(bars, range(60, 400), range(400, 500))], bounds, lambda _: None)
    return MODEL_SPECS[model].load(fitted.files, fitted.quantile_levels)


FORECASTERS: dict[str, Callable[[TrainedModel], Forecaster]] = {
    "persistence": lambda _: Persistence(horizon=30),
    "drift": lambda _: _fitted("drift"),
    "rolling_empirical": lambda _: _fitted("rolling_empirical"),
    "ewma": lambda _: _fitted("ewma"),
    "gjr_garch": lambda _: _fitted("gjr_garch"),
    "volatility_regression": lambda _: _fitted("volatility_regression"),
    "gradient_boosting": lambda _: _fitted("gradient_boosting"),
    "fixed (the tests' own)": lambda _: FixedForecaster(),
    "price_lstm": lambda _: _fitted("price_lstm", horizon=5),  # each step runs the network again
    "ratio_lstm": lambda _: _fitted("ratio_lstm", horizon=5),
    "return_lstm": _served,
    "return_lstm, calibrated": lambda trained: CalibratedForecaster(
        _served(trained), calibration_from_json(trained.files[CALIBRATION])
    ),
}


@pytest.fixture(params=FORECASTERS, scope="module")
def forecaster(request: pytest.FixtureRequest, trained: TrainedModel) -> Forecaster:
    return FORECASTERS[request.param](trained)


N_SESSIONS = 300  # more than any of them looks back

walks = st.builds(
    random_walk,
    n_sessions=st.just(N_SESSIONS),
    seed=st.integers(0, 10_000),
    daily_volatility=st.floats(0.001, 0.08),
    start=st.floats(0.01, 1e5),
)


@given(bars=walks)
@settings(max_examples=15, deadline=None)
def test_prices_are_finite_positive_and_ordered_in_level(forecaster: Forecaster, bars: Bars) -> None:
    origins = np.array([270, 299])

    forecast = forecaster.predict_quantiles(bars, origins)

    assert forecast.prices.shape == (2, forecaster.horizon, forecast.quantile_levels.size)
    assert np.isfinite(forecast.prices).all()
    assert (forecast.prices > 0).all()
    assert (np.diff(forecast.prices, axis=-1) >= 0).all()


@given(bars=walks, future=walks)
@settings(max_examples=15, deadline=None)
def test_nothing_after_the_origin_changes_the_forecast(forecaster: Forecaster, bars: Bars, future: Bars) -> None:
    origins = np.array([260, 270])
    altered = np.vstack([bars[:271], future[271:] * 7.0])

    same = forecaster.predict_quantiles(altered, origins).prices

    np.testing.assert_array_equal(same, forecaster.predict_quantiles(bars, origins).prices)


@given(bars=walks, k=st.floats(1e-3, 1e3))
@settings(max_examples=15, deadline=None)
def test_k_times_the_prices_gives_k_times_the_forecast(forecaster: Forecaster, bars: Bars, k: float) -> None:
    origins = np.array([299])
    scaled = bars * np.array([k, k, k, k, 1.0])

    forecast = forecaster.predict_quantiles(scaled, origins).prices

    np.testing.assert_allclose(forecast, k * forecaster.predict_quantiles(bars, origins).prices, rtol=1e-5)


def test_origins_do_not_influence_each_other(forecaster: Forecaster) -> None:
    bars = random_walk(700)

    together = forecaster.predict_quantiles(bars, np.arange(260, 700)).prices

    alone = forecaster.predict_quantiles(bars, np.array([523])).prices
    np.testing.assert_allclose(together[263:264], alone, rtol=1e-6)


def test_no_origins_give_no_forecasts(forecaster: Forecaster) -> None:
    forecast = forecaster.predict_quantiles(random_walk(N_SESSIONS), np.array([], dtype=np.intp))

    assert forecast.prices.shape == (0, forecaster.horizon, forecast.quantile_levels.size)


@pytest.mark.parametrize("columns", [[OPEN, HIGH, LOW, VOLUME], [VOLUME], [OPEN, HIGH, LOW]])
def test_unknown_columns_still_give_a_forecast(forecaster: Forecaster, columns: list[int]) -> None:
    bars = random_walk(N_SESSIONS)
    bars[:, columns] = np.nan

    forecast = forecaster.predict_quantiles(bars, np.array([299]))

    assert np.isfinite(forecast.prices).all()


@pytest.mark.parametrize("volume", [0.0, 1e15])
def test_a_window_that_never_moves_gives_a_finite_forecast(forecaster: Forecaster, volume: float) -> None:
    bars = np.tile([5.0, 5.0, 5.0, 5.0, volume], (N_SESSIONS, 1))

    forecast = forecaster.predict_quantiles(bars, np.array([299]))

    assert np.isfinite(forecast.prices).all()
    assert forecast.median[0, 0] == pytest.approx(bars[-1, CLOSE], rel=0.05)
