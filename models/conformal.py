"""Split conformal calibration: how far a forecast's own spread must be stretched to keep its promise.

The conformity score of a calibration pair is |ln actual − ln median| in units
of the spread that the forecast has on that side: the distance from its median
to its 10 % or 90 % quantile. The margin of a coverage level is the
ceil((n + 1)·level)-th smallest score, and the interval reaches that many
spreads to either side. One list of scores per step thus serves every level,
the interval keeps the width and the skew that the model chose for the day, and
a forecast without any spread gets the plain interval of its past errors.

Source: Lei et al. (2018), JASA, split conformal with locally weighted scores.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from errors import CalibrationTooSmall
from models.base import Bars, Forecaster, Origins, QuantileForecast
from models.windows import future_closes, sessions_needed

SPREAD_LEVELS = (0.1, 0.5, 0.9)
MIN_SPREAD = 1e-6  # a hundredth of a basis point: a forecast without spread is scored by its plain log error


def conformal_margin(scores: NDArray[np.float64], level: float) -> float:
    """Margin m such that a new score is at most m with probability ``level``.

    Takes the ceil((n + 1)·level)-th smallest score; the "+ 1" is what makes
    coverage hold for small n. Guaranteed only for exchangeable scores, which
    those of returns are not: the test part reports the coverage actually reached.

    Args:
        scores: conformity scores of one step, ascending, shape (n,).
        level: target coverage, 0 < level < 1 (0.9, not 90).

    Raises:
        CalibrationTooSmall: n < level / (1 − level); no finite margin exists.

    >>> conformal_margin(np.arange(1.0, 20.0), level=0.9)
    18.0
    """
    rank = math.ceil((scores.size + 1) * level - 1e-9)  # 100 * 0.55 is 55.000…01 in floats
    if rank > scores.size:
        raise CalibrationTooSmall(f"{scores.size} scores cannot support level {level}", found=int(scores.size))
    return float(scores[rank - 1])


@dataclass(frozen=True, eq=False)
class Calibration:
    """Conformity scores of every step, ascending; ``scores[h - 1]`` has shape (n_h,)."""

    scores: tuple[NDArray[np.float64], ...]
    _by_grid: dict[bytes, NDArray[np.float64]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def measure(cls, forecast: QuantileForecast, actuals: NDArray[np.float64]) -> "Calibration":
        """Scores of forecasts made at calibration origins.

        Args:
            forecast: prices of shape (n_origins, horizon, n_levels).
            actuals: the closes that followed, shape (n_origins, horizon), NaN where unknown.
        """
        centre = _Centre.of(forecast)
        error = np.log(actuals) - centre.log_median  # (n_origins, horizon)
        scores = np.where(error < 0, -error / centre.below, error / centre.above)
        return cls(tuple(np.sort(step[~np.isnan(step)]) for step in scores.T))

    @classmethod
    def of(cls, forecaster: Forecaster, bars: Bars, origins: Origins, stop: int) -> "Calibration":
        """Scores of a forecaster at these origins; nothing at row ``stop`` or beyond is seen."""
        actuals = future_closes(bars, origins, forecaster.horizon, stop)
        return cls.measure(forecaster.predict_quantiles(bars, origins), actuals)

    @classmethod
    def pooled(cls, parts: "Sequence[Calibration]") -> "Calibration":
        """The scores of several tickers as one; in units of spread they compare."""
        steps = zip(*(part.scores for part in parts), strict=True)
        return cls(tuple(np.sort(np.concatenate(step)) for step in steps))

    @property
    def horizon(self) -> int:
        """Number of steps calibrated."""
        return len(self.scores)

    def validate(self, levels: Sequence[float]) -> None:
        """Refuse coverage levels that a step has too few scores for, with CalibrationTooSmall."""
        n = min(step.size for step in self.scores)
        for level in levels:
            if math.ceil((n + 1) * level - 1e-9) > n:
                raise CalibrationTooSmall(f"{n} scores cannot support level {level}", found=n)

    def margins(self, levels: Sequence[float]) -> NDArray[np.float64]:
        """The margin of each step and coverage level, in spreads, shape (horizon, n_levels).

        Raises:
            CalibrationTooSmall: a step has too few scores for a level.
        """
        return np.array([[conformal_margin(step, level) for level in levels] for step in self.scores])

    def quantiles(self, forecast: QuantileForecast) -> QuantileForecast:
        """Recalibrate each quantile with the conformal margin of its central interval.

        Levels too far out for the number of scores are put at the largest score,
        so that a whole grid can always be moved; an interval promised to somebody
        comes from ``intervals``, which refuses them.
        """
        centre = _Centre.of(forecast)
        signed = self._signed_margins(forecast.quantile_levels)
        spread = np.where(signed < 0, centre.below[..., None], centre.above[..., None])
        return QuantileForecast(forecast.quantile_levels, np.exp(centre.log_median[..., None] + signed * spread))

    def _signed_margins(self, quantile_levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """How many spreads each quantile lies from the median, (horizon, n_levels); formed once for each grid."""
        key = quantile_levels.tobytes()
        if key not in self._by_grid:
            coverage = np.abs(2 * quantile_levels - 1)
            margins = np.array([_margins_or_largest(step, coverage) for step in self.scores])
            self._by_grid[key] = np.sign(quantile_levels - 0.5) * margins
        return self._by_grid[key]

    def intervals(self, forecast: QuantileForecast, levels: Sequence[float]) -> "IntervalForecast":
        """The forecast's median and its interval per coverage level.

        Raises:
            CalibrationTooSmall: a step has too few scores for a level.
        """
        centre = _Centre.of(forecast)
        margins = self.margins(levels)  # (horizon, n_levels)
        log_median = centre.log_median[..., None]
        return IntervalForecast(
            median=np.exp(centre.log_median),
            lower=np.exp(log_median - margins * centre.below[..., None]),
            upper=np.exp(log_median + margins * centre.above[..., None]),
            distribution=lambda: self.quantiles(forecast),
        )


@dataclass(frozen=True, eq=False)
class _Centre:
    """Log median of a forecast and its spread to either side, each of shape (n_origins, horizon)."""

    log_median: NDArray[np.float64]
    below: NDArray[np.float64]
    above: NDArray[np.float64]

    @classmethod
    def of(cls, forecast: QuantileForecast) -> "_Centre":
        low, median, high = np.moveaxis(np.log(forecast.at(np.array(SPREAD_LEVELS))), -1, 0)
        return cls(median, np.maximum(median - low, MIN_SPREAD), np.maximum(high - median, MIN_SPREAD))


def _margins_or_largest(scores: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """``conformal_margin`` of each level at once: zero at the median, the largest score where that one refuses."""
    ranks = np.ceil((scores.size + 1) * levels - 1e-9).astype(np.intp)
    return np.where(levels < 1e-9, 0.0, scores[np.clip(ranks, 1, scores.size) - 1])


@dataclass(frozen=True, eq=False)
class IntervalForecast:
    """Prices at steps 1…horizon after each origin.

    Attributes:
        median: the point forecast, shape (n_origins, horizon).
        lower, upper: interval bounds, shape (n_origins, horizon, n_levels).
        distribution: gives the whole calibrated distribution; formed when asked for, as few ask.
    """

    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    distribution: "Callable[[], QuantileForecast] | None" = None


class ServedForecaster(Forecaster, Protocol):
    """A forecaster with calibrated intervals."""

    @property
    def calibration(self) -> Calibration:
        """Scores of the calibration part."""
        ...

    @property
    def memory(self) -> int:
        """Sessions of its own record that the intervals adapt to; 0 for static intervals."""
        ...

    @property
    def wanted_sessions(self) -> int:
        """Sessions up to and including an origin that determine its forecast; ``lookback`` suffice."""
        ...

    @property
    def static(self) -> "CalibratedForecaster":
        """The same with intervals that depend on the last ``lookback`` sessions only."""
        ...

    def predict_intervals(self, bars: Bars, origins: Origins, levels: Sequence[float]) -> IntervalForecast:
        """The point forecast and an interval per coverage level, at every step after every origin.

        Raises:
            CalibrationTooSmall: the calibration part cannot support a level.
        """
        ...


class CalibratedForecaster:
    """Wraps a forecaster and calibrates its intervals on the calibration part."""

    memory = 0

    def __init__(self, inner: Forecaster, calibration: Calibration) -> None:
        self.inner = inner
        self.calibration = calibration
        self.lookback = inner.lookback
        self.horizon = inner.horizon
        self.wanted_sessions = sessions_needed(inner.lookback)

    @property
    def static(self) -> "CalibratedForecaster":
        return self

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        return self.calibration.quantiles(self.inner.predict_quantiles(bars, origins))

    def predict_intervals(self, bars: Bars, origins: Origins, levels: Sequence[float]) -> IntervalForecast:
        return self.calibration.intervals(self.inner.predict_quantiles(bars, origins), levels)
