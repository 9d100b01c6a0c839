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
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from errors import ArtifactCorrupt, CalibrationTooSmall, HorizonTooLong
from models.base import Bars, FirstSteps, Forecaster, Origins, QuantileForecast, never_narrowing
from models.windows import future_closes, sessions_needed

SPREAD_LEVELS = (0.1, 0.5, 0.9)
PROMISED_LEVELS = (0.025, 0.975)
"""Bounds of the default 95 % interval: models leave them out, and between two conformal quantiles none is exact."""
YEAR = 250  # origins before the newest, which say what is usual
MIN_SPREAD = 1e-6  # a hundredth of a basis point: a forecast without spread is scored by its plain log error


def conformal_margins(scores: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Margins m such that a new score is at most m with the probability of each level; zero at level 0.

    Takes the ceil((n + 1)·level)-th smallest score; the "+ 1" is what makes
    coverage hold for small n. Guaranteed only for exchangeable scores, which
    those of returns are not: the test part reports the coverage actually reached.
    Where n < level / (1 − level) no finite margin exists and the largest score is
    returned: ``Calibration.validate`` refuses to promise such an interval.

    Args:
        scores: conformity scores of one step, ascending, shape (n,).
        levels: target coverages (0.9, not 90), shape (n_levels,).

    >>> conformal_margins(np.arange(1.0, 20.0), np.array([0.9])).tolist()
    [18.0]
    """
    ranks = np.ceil((scores.size + 1) * levels - 1e-9).astype(np.intp)  # 100 * 0.55 is 55.000…01 in floats
    return np.where(levels < 1e-9, 0.0, scores[np.clip(ranks, 1, scores.size) - 1])


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
        log_median, below, above = _centre(forecast)
        error = np.log(actuals) - log_median  # (n_origins, horizon)
        scores = np.where(error < 0, -error / below, error / above)
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

    def thinned(self, most: int) -> "Calibration":
        """At most ``most`` scores of each step, evenly spread in rank, so that no margin gets smaller."""
        return Calibration(tuple(_evenly_spread(step, most) for step in self.scores))

    def informed_by(self, base: "Calibration | None") -> "Calibration":
        """One in h of the scores of step h, with those of the model that this one was continued from, if any.

        Successive spans of h sessions share all but one: a few hundred of them say little about the far steps.

        Raises:
            ArtifactCorrupt: the base is calibrated for other steps.
        """
        if base is None:
            return self
        if len(base.scores) != len(self.scores):
            raise ArtifactCorrupt(f"the base is calibrated for {len(base.scores)} steps, not {len(self.scores)}")
        apart = tuple(_evenly_spread(step, -(-step.size // h)) for h, step in enumerate(self.scores, 1))
        return Calibration.pooled([base, Calibration(apart)])

    def up_to(self, horizon: int) -> "Calibration":
        """The scores of the first steps."""
        return Calibration(self.scores[:horizon])

    def validate(self, horizon: int, levels: Sequence[float]) -> None:
        """Refuse more steps than were calibrated, and coverage levels that a step has too few scores for.

        Raises:
            HorizonTooLong, CalibrationTooSmall.
        """
        if horizon > len(self.scores):
            raise HorizonTooLong(f"asked for {horizon} sessions, the model forecasts {len(self.scores)}")
        n = self.fewest
        for level in levels:
            if math.ceil((n + 1) * level - 1e-9) > n:
                raise CalibrationTooSmall(f"{n} scores cannot support level {level}", found=n)

    @cached_property
    def fewest(self) -> int:
        """Scores of the step with the fewest."""
        return min(int(step.size) for step in self.scores)

    def quantiles(self, forecast: QuantileForecast) -> QuantileForecast:
        """Recalibrate each quantile with the conformal margin of its central interval.

        The levels are those of the forecast and ``PROMISED_LEVELS``. Levels too far out for the number of scores are
        put at the largest score, so that a whole grid can always be moved.

        Raises:
            ArtifactCorrupt: the forecast has other steps than were calibrated.
        """
        return self.quantiles_at(forecast, np.union1d(forecast.quantile_levels, PROMISED_LEVELS))

    def quantiles_at(self, forecast: QuantileForecast, levels: NDArray[np.float64]) -> QuantileForecast:
        """``quantiles`` at other levels, ascending and with the median among them."""
        if forecast.horizon != len(self.scores):
            raise ArtifactCorrupt(f"the model forecasts {forecast.horizon} steps, {len(self.scores)} are calibrated")
        key = levels.tobytes()
        if key not in self._by_grid:
            margins = np.array([conformal_margins(step, np.abs(2 * levels - 1)) for step in self.scores])
            self._by_grid[key] = np.sign(levels - 0.5) * margins  # in spreads, (horizon, n_levels)
        signed = self._by_grid[key]
        log_median, below, above = _centre(forecast)
        spread = np.where(signed < 0, below[..., None], above[..., None])
        return never_narrowing(QuantileForecast(levels, np.exp(log_median[..., None] + signed * spread)))


def _evenly_spread(scores: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    if scores.size <= most:
        return scores
    ranks = np.ceil(np.arange(1, most + 1) * (scores.size + 1) / (most + 1)).astype(np.intp)
    return scores[ranks - 1]


def _centre(forecast: QuantileForecast) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Log median of a forecast and its spread below and above, each of shape (n_origins, horizon)."""
    low, median, high = np.moveaxis(np.log(forecast.at(np.array(SPREAD_LEVELS))), -1, 0)
    return median, np.maximum(median - low, MIN_SPREAD), np.maximum(high - median, MIN_SPREAD)


class ServedForecaster(Forecaster, Protocol):
    """A forecaster with calibrated intervals."""

    @property
    def calibration(self) -> Calibration:
        """Scores of the calibration part."""

    @property
    def wanted_sessions(self) -> int:
        """Sessions up to and including an origin that its forecast and the explanation read; ``lookback`` suffice."""

    @property
    def static(self) -> "CalibratedForecaster":
        """The same with intervals that depend on the last ``lookback`` sessions only."""

    def up_to(self, horizon: int) -> "ServedForecaster":
        """The same forecasts of the first steps, without the work for those after them."""


class CalibratedForecaster:
    """Wraps a forecaster and calibrates its intervals on the calibration part."""

    def __init__(self, inner: Forecaster, calibration: Calibration) -> None:
        self.inner = inner
        self.calibration = calibration
        self.lookback = inner.lookback
        self.horizon = inner.horizon
        self.wanted_sessions = sessions_needed(inner.lookback) + YEAR

    @property
    def static(self) -> "CalibratedForecaster":
        return self

    @cached_property
    def next_session(self) -> "CalibratedForecaster":
        """The same forecasts of the first step."""
        return self.up_to(1)

    def up_to(self, horizon: int) -> "CalibratedForecaster":
        return CalibratedForecaster(FirstSteps(self.inner, horizon), self.calibration.up_to(horizon))

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        return self.calibration.quantiles(self.inner.predict_quantiles(bars, origins))
