"""Adaptive calibration: intervals that follow how often they have lately been missed.

For each step h and coverage level c the distance from the forecast's median to
either bound of the static calibration is multiplied by exp(a). Starting from
a = 0, the sessions before the origin are replayed: whenever the outcome of a past forecast becomes known,

    a += RATE / h · (miss − (1 − c)),      miss = 1 outside the bounds, else 0

so that bounds missed too often move out and bounds never missed move in. What
is forecast from an origin depends on the MEMORY origins before it and nothing
else. Distances never shrink with rising level, so quantiles never cross.

Source: Angelopoulos, Candès, Tibshirani (2023), NeurIPS, "Conformal PID control
for time series prediction", quantile tracking, here on log margins.
"""

import threading
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from models.base import Bars, Forecaster, Origins, QuantileForecast
from models.conformal import CalibratedForecaster, Calibration, IntervalForecast
from models.windows import future_closes, sessions_needed

RATE = 0.03  # a miss moves the 80 % bounds of step 1 by 2.4 %
MEMORY = 500  # origins replayed: two years
TRACKED_LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
ROUNDING = 1e-9  # an outcome that has made a bound, as those of the calibration part have, is inside it
REMEMBERED = 1024  # origins whose factors are kept: a ticker asked for again costs one inference

LogFactors = NDArray[np.float64]
"""Log of what each distance is multiplied by, shape (n_origins, horizon, n_tracked_levels)."""


class AdaptiveForecaster:
    """Any forecaster, its calibrated quantiles following their own record.

    The static calibration is where every replay starts, and what is left where
    no session precedes an origin.

    Args:
        inner: the forecaster as fitted.
        calibration: scores of the calibration part.
    """

    def __init__(self, inner: Forecaster, calibration: Calibration) -> None:
        self.static = CalibratedForecaster(inner, calibration)
        self.lookback = inner.lookback
        self.horizon = inner.horizon
        self._remembered: LRUCache[bytes, LogFactors] = LRUCache(REMEMBERED)
        self._lock = threading.Lock()

    @property
    def calibration(self) -> Calibration:
        """Scores of the calibration part."""
        return self.static.calibration

    @property
    def wanted_sessions(self) -> int:
        """Sessions up to and including an origin that determine its forecast; fewer will do."""
        return sessions_needed(self.lookback) + MEMORY

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        """The distribution on the grid of the forecaster inside, see ``Forecaster``."""
        return _stretched(self.static.predict_quantiles(bars, origins), self._factors(bars, origins))

    def predict_intervals(self, bars: Bars, origins: Origins, levels: Sequence[float]) -> IntervalForecast:
        """The point forecast and an interval per coverage level, at every step after every origin.

        Raises:
            CalibrationTooSmall: the calibration part cannot support a level.
        """
        self.calibration.margins(levels)
        forecast = self.predict_quantiles(bars, origins)
        half = np.array(levels) / 2
        return IntervalForecast(
            forecast.median,
            lower=forecast.at(0.5 - half),
            upper=forecast.at(0.5 + half),
            distribution=lambda: forecast,
        )

    def _factors(self, bars: Bars, origins: Origins) -> LogFactors:
        if origins.size != 1:
            return self._replayed(bars, origins)
        stop = int(origins[0]) + 1
        key = blake2b(bars[max(0, stop - self.wanted_sessions) : stop].tobytes()).digest()
        with self._lock:
            factors = self._remembered.get(key)
        if factors is None:
            factors = self._replayed(bars, origins)
            with self._lock:
                self._remembered[key] = factors
        return factors

    def _replayed(self, bars: Bars, origins: Origins) -> LogFactors:
        if not origins.size:
            return np.empty((0, self.horizon, TRACKED_LEVELS.size))
        first = max(self.lookback - 1, int(origins.min()) - MEMORY)
        past = np.arange(first, int(origins.max()))
        if not past.size:
            return np.zeros((origins.size, self.horizon, TRACKED_LEVELS.size))
        actuals = future_closes(bars, past, self.horizon)
        reach = _log_factors_at_outcome(self.static.predict_quantiles(bars, past), actuals)
        return _replay(reach, _by_session(~np.isnan(actuals)), past=origins - first)


def _log_factors_at_outcome(forecast: QuantileForecast, actuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far out each outcome lay: the ``a`` that would have put the bounds there, in units of its step's rate.

    Shape (horizon, n_levels, n). Column r tells what becomes known in the session after row r: at step h the
    forecast made h − 1 rows before. NaN where there is none.
    """
    median = np.log(forecast.median)
    error = (np.log(actuals) - median)[..., None]
    below = median[..., None] - np.log(forecast.at(0.5 - TRACKED_LEVELS / 2))
    above = np.log(forecast.at(0.5 + TRACKED_LEVELS / 2)) - median[..., None]
    horizon = below.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # no error is within any bounds, no distance holds none
        by_origin = np.log(np.abs(error) / np.where(error < 0, below, above)) / _rates(horizon)[:, None] - ROUNDING
    return _by_session(by_origin)


def _by_session(values: NDArray[Any]) -> NDArray[Any]:
    """What becomes known in each session, (horizon, …, n), from what is known of each origin's steps, (n, horizon, …).

    NaN, or False, where there is none.
    """
    n, horizon = values.shape[:2]
    nothing = False if values.dtype == np.bool_ else np.nan
    known = np.full((horizon, *values.shape[2:], n), nothing, dtype=values.dtype)
    for step in range(min(horizon, n)):
        known[step, ..., step:] = np.moveaxis(values[: n - step, step], 0, -1)
    return known


def _replay(reach: NDArray[np.float64], happened: NDArray[np.bool_], past: Origins) -> LogFactors:
    """Factors for origins that have ``past`` columns of ``reach`` before them, all replayed side by side.

    In round r each origin takes up what became known MEMORY − r sessions before it, and adds
    miss − (1 − c) to its excess of misses; the rates make log factors of these at the end.
    ``happened`` (horizon, n) is False where a step has no outcome: its session did not trade.
    """
    horizon, n_levels, _ = reach.shape
    steps, every = np.arange(1, horizon + 1)[:, None], np.arange(horizon)
    excess = np.zeros((horizon, n_levels, past.size))
    then = np.zeros((horizon, *excess.shape))  # when each forecast was made, for the rounds until its last outcome
    for round_ in range(MEMORY):
        row = past - MEMORY + round_
        then[round_ % horizon] = excess
        made = round_ - every  # the round in which step h's forecast, now known, was made
        outside = reach[:, :, np.maximum(row, 0)] > then[made % horizon, every]
        for level in range(1, n_levels):  # inside the bounds of one level is inside those of all above
            outside[:, level] &= outside[:, level - 1]
        gained = outside - (1 - TRACKED_LEVELS[:, None])
        known = (made[:, None] >= 0) & (row + 1 >= steps) & happened[:, np.maximum(row, 0)]  # (horizon, n_origins)
        excess += gained if known.all() else gained * known[:, None]
    return excess.transpose(2, 0, 1) * _rates(horizon)[:, None]


def _rates(horizon: int) -> NDArray[np.float64]:
    """What a miss moves the log factors of each step by."""
    rates: NDArray[np.float64] = RATE / np.arange(1, horizon + 1)
    return rates


def _stretched(raw: QuantileForecast, factors: LogFactors) -> QuantileForecast:
    """The forecast with every quantile's distance from the median multiplied by the factor of its level."""
    levels, middle = raw.quantile_levels, raw.quantile_levels.size // 2
    log_prices = np.log(raw.prices)
    distance = log_prices - log_prices[..., middle, None]
    distance *= np.exp(_at_levels(factors, np.abs(2 * levels - 1)))
    outward = np.maximum.accumulate(distance[..., middle:], axis=-1)
    inward = np.minimum.accumulate(distance[..., middle::-1], axis=-1)[..., ::-1]
    distance = np.concatenate([inward, outward[..., 1:]], axis=-1)
    return QuantileForecast(levels, np.exp(log_prices[..., middle, None] + distance))


def _at_levels(factors: LogFactors, coverage: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors of other coverage levels, linear between those tracked and constant beyond them."""
    upper = np.clip(np.searchsorted(TRACKED_LEVELS, coverage), 1, TRACKED_LEVELS.size - 1)
    lower = upper - 1
    gap = TRACKED_LEVELS[upper] - TRACKED_LEVELS[lower]
    weight = np.clip((coverage - TRACKED_LEVELS[lower]) / gap, 0.0, 1.0)
    between: NDArray[np.float64] = (1 - weight) * factors[..., lower] + weight * factors[..., upper]
    return between
