"""Refuses forecasts that are no prices: a damaged or hostile stored model must not answer with a number."""

import numpy as np
from numpy.typing import NDArray

from errors import ArtifactCorrupt
from models.base import (
    CLOSE,
    IMPLIED_VOLATILITY,
    MARKET_OPEN,
    N_INPUTS,
    VOLUME,
    Bars,
    Forecaster,
    Origins,
    QuantileForecast,
)
from models.conformal import ServedForecaster
from models.trading import HaltAwareForecaster

ROUNDING = 1e-9  # of a price: exponentials of equal numbers may differ in the last digit
WILD_MOVE, WILD_RANGE = 1.0, 3.0  # log moves of one session and of all: no sound model is sure to stay finite beyond
TRIAL_VOLATILITY = 0.01  # a session's, of the prices that a loaded model is tried on
MAX_LOOKBACK, MAX_STEPS = 1000, 250  # sessions, four and eight times those of our own models


class CheckedForecaster:
    """Wraps a forecaster and raises ArtifactCorrupt where its quantiles are not prices in ascending order."""

    def __init__(self, inner: Forecaster) -> None:
        if not (1 <= inner.lookback <= MAX_LOOKBACK and 1 <= inner.horizon <= MAX_STEPS):
            raise ArtifactCorrupt(
                f"a stored model cannot forecast {inner.horizon} steps from {inner.lookback} sessions"
            )
        self._inner = inner
        self.lookback = inner.lookback
        self.horizon = inner.horizon

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        with np.errstate(all="ignore"):  # what overflows is refused here
            forecast = self._inner.predict_quantiles(bars, origins)
        expected = (origins.size, self.horizon, forecast.quantile_levels.size)
        if forecast.prices.shape != expected:
            raise ArtifactCorrupt(f"expected quantiles of shape {expected}, found {forecast.prices.shape}")
        validate_prices(forecast, bars, origins, self.lookback)
        return forecast


def validate_prices(forecast: QuantileForecast, bars: Bars, origins: Origins, lookback: int) -> None:
    """Refuse quantiles that are not finite, not above zero or descending, unless the closes jump too far for any model.

    Raises:
        ArtifactCorrupt.
    """
    if not _are_prices(forecast.prices) and not _are_wild(bars, origins, lookback):
        raise ArtifactCorrupt("the stored model forecasts quantiles that are not finite prices in ascending order")


def validate_model(model: ServedForecaster) -> None:
    """Forecast from the end of an ordinary random walk, and refuse a model that finds no prices there.

    Raises:
        ArtifactCorrupt.
    """
    bars, last = trial_bars(model.lookback), np.array([model.lookback - 1])
    inner = model.static.inner
    inner = inner.inner if isinstance(inner, HaltAwareForecaster) else inner  # every session of the walk has traded
    with np.errstate(all="ignore"):
        forecast = model.calibration.quantiles(inner.predict_quantiles(bars, last))
    validate_prices(forecast, bars, last, model.lookback)


def trial_bars(n_sessions: int) -> Bars:
    """Bars of a random walk with its market, always the same, shape (n_sessions, 10)."""
    rng = np.random.default_rng(0)

    def walk() -> NDArray[np.float64]:
        close = 100 * np.exp(np.cumsum(rng.normal(0, TRIAL_VOLATILITY, n_sessions)))
        opened = close * np.exp(rng.normal(0, TRIAL_VOLATILITY / 4, n_sessions))
        stretch = np.exp(np.abs(rng.normal(0, TRIAL_VOLATILITY / 2, (2, n_sessions))) + TRIAL_VOLATILITY / 10)
        return np.column_stack(
            [opened, np.maximum(opened, close) * stretch[0], np.minimum(opened, close) / stretch[1], close]
        )

    bars = np.empty((n_sessions, N_INPUTS))
    bars[:, : CLOSE + 1], bars[:, VOLUME] = walk(), 1e6
    bars[:, MARKET_OPEN:IMPLIED_VOLATILITY], bars[:, IMPLIED_VOLATILITY] = walk(), 20.0
    return bars


def _are_prices(prices: NDArray[np.float64]) -> bool:
    above, below = prices[..., 1:], prices[..., :-1]
    ascending = (above >= below).all() or (above >= below * (1 - ROUNDING)).all()  # false where one is no number
    return bool(ascending and (prices[..., 0] > 0).all() and np.isfinite(prices[..., -1]).all())


def _are_wild(bars: Bars, origins: Origins, lookback: int) -> bool:
    closes = bars[max(int(origins.min()) - lookback + 1, 0) : int(origins.max()) + 1, CLOSE]
    logs = np.log(closes[~np.isnan(closes)])
    return bool(np.ptp(logs) > WILD_RANGE or np.abs(np.diff(logs)).max(initial=0.0) > WILD_MOVE)
