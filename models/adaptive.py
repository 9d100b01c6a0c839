"""Adaptive calibration: interval widths follow their recent miscoverage.

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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.base import Bars, FirstSteps, Forecaster, Origins, QuantileForecast, never_narrowing
from models.conformal import CalibratedForecaster, Calibration
from models.windows import future_closes, sessions_needed

RATE = 0.03  # a miss moves the 80 % bounds of step 1 by 2.4 %
MEMORY = 500  # origins replayed: two years
TRACKED_LEVELS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99])
TRACKED_BOUNDS = np.concatenate([0.5 - TRACKED_LEVELS[::-1] / 2, [0.5], 0.5 + TRACKED_LEVELS / 2])
ROUNDING = 1e-9  # an outcome that has made a bound, as those of the calibration part have, is inside it

LogFactors = NDArray[np.float64]
"""Log of what each distance is multiplied by, shape (n_origins, horizon, n_tracked_levels)."""


class NextSessions(NamedTuple):
    """Forecasts of the session after each of successive origins, prices of shape (n_origins, 1, n_levels).

    Attributes:
        raw: as the inner forecaster states them.
        served: calibrated and, where the model adapts, adapted.
    """

    raw: QuantileForecast
    served: QuantileForecast


class AdaptiveForecaster:
    """Wraps a forecaster, calibrates it, and adapts interval widths online to recent miscoverage.

    Every replay starts at the static calibration, which is also the result where no session precedes an origin.

    Args:
        inner: the forecaster as fitted.
        calibration: scores of the calibration part.
    """

    def __init__(self, inner: Forecaster, calibration: Calibration) -> None:
        self.static = CalibratedForecaster(inner, calibration)
        self.calibration = calibration
        self.lookback = inner.lookback
        self.horizon = inner.horizon
        self.wanted_sessions = sessions_needed(self.lookback) + MEMORY

    def up_to(self, horizon: int) -> "AdaptiveForecaster":
        return AdaptiveForecaster(FirstSteps(self.static.inner, horizon), self.calibration.up_to(horizon))

    def predict_quantiles(self, bars: Bars, origins: Origins, factors: LogFactors | None = None) -> QuantileForecast:
        """The distribution on the grid of the inner forecaster; ``factors`` spares the replay where they are known."""
        factors = self.log_factors(bars, origins) if factors is None else factors
        return _stretched(self.static.predict_quantiles(bars, origins), factors)

    def log_factors(self, bars: Bars, origins: Origins) -> LogFactors:
        """Replay the sessions before each origin of one history."""
        if not origins.size:
            return np.empty((0, self.horizon, TRACKED_LEVELS.size))
        first = max(self.lookback - 1, int(origins.min()) - MEMORY)
        return _replay([self._record(bars, np.arange(first, int(origins.max())))], [origins - first])

    def newest_replays(self, histories: Sequence[Bars], kept: int) -> tuple[LogFactors, list[NextSessions]]:
        """Replay the sessions before the last one of each history, all histories in step.

        The second part has what the replay forecasts from the last ``kept`` origins of each history, the newest
        included, or from all that it has. Their own replays would begin earlier, which no longer matters to an origin
        that has hundreds of others before it.
        """
        lasts = np.array([len(bars) - 1 for bars in histories])
        firsts = np.maximum(self.lookback - 1, lasts - MEMORY)
        records = [
            self._record(bars, np.arange(first, last + 1), kept)
            for bars, first, last in zip(histories, firsts, lasts, strict=True)
        ]
        path: list[NDArray[np.float64]] = []
        factors = _replay(records, list((lasts - firsts)[:, None]), path)
        of_step_one = np.array([*path, factors[:, 0]])  # (n_rounds + 1, n_histories, n_tracked_levels)
        replayed = []
        for row, record in enumerate(records):
            own = of_step_one[len(of_step_one) - len(record.static.prices) :, row, None]
            replayed.append(NextSessions(record.raw, _stretched(record.static, own)))
        return factors, replayed

    def _record(self, bars: Bars, past: Origins, kept: int = 0) -> "_Record":
        actuals = future_closes(bars, past, self.horizon)
        raw = self.static.inner.predict_quantiles(bars, past)
        bounds = self.calibration.quantiles_at(raw, TRACKED_BOUNDS)  # a quarter of the levels, and of the work
        at_outcome, happened = _log_factors_at_outcome(bounds, actuals), _by_session(~np.isnan(actuals))
        first = _first_step(raw, kept)
        return _Record(at_outcome, happened, first, self.calibration.up_to(1).quantiles(first))


@dataclass(frozen=True, eq=False)
class _Record:
    """What became known after each of n successive origins, and what was forecast from the last of them.

    Attributes:
        at_outcome: see ``_log_factors_at_outcome``, shape (horizon, n_levels, n).
        happened: False where a step has no outcome because its session did not trade, shape (horizon, n).
        raw, static: of the inner forecaster, and with static intervals, prices of shape (n_kept, 1, n_levels).
    """

    at_outcome: NDArray[np.float64]
    happened: NDArray[np.bool_]
    raw: QuantileForecast
    static: QuantileForecast


def _first_step(forecast: QuantileForecast, kept: int) -> QuantileForecast:
    """The first step of the last ``kept`` origins, in memory of its own: a view would keep all steps."""
    first = max(len(forecast.prices) - kept, 0)
    return QuantileForecast(forecast.quantile_levels, forecast.prices[first:, :1].copy())


def _log_factors_at_outcome(bounds: QuantileForecast, actuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far out each outcome lay: the ``a`` that would have put the bounds there, in units of its step's rate.

    Shape (horizon, n_tracked_levels, n), from quantiles at TRACKED_BOUNDS. Column r has what becomes known in the
    session after row r: at step h the forecast made h − 1 rows before. NaN where there is none.
    """
    middle = TRACKED_LEVELS.size
    median = np.log(bounds.prices[..., middle])
    error = np.log(actuals) - median
    missed_below = (error < 0)[..., None]
    below, above = bounds.prices[..., middle - 1 :: -1], bounds.prices[..., middle + 1 :]
    distance = np.log(np.where(missed_below, below, above)) - median[..., None]
    distance = np.where(missed_below, -distance, distance)
    horizon = error.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):  # no error is within any bounds, no distance holds none
        by_origin = np.log(np.abs(error)[..., None] / distance) / _rates(horizon)[:, None] - ROUNDING
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


def _replay(
    records: Sequence[_Record], pasts: Sequence[Origins], path: list[NDArray[np.float64]] | None = None
) -> LogFactors:
    """Log factors of origins that have ``pasts`` columns of their record before them, all replayed together.

    Those that the first step had before each round are appended to ``path``, shape (n_origins, n_levels).

    In round r each origin takes up what became known MEMORY − r sessions before it, and adds
    miss − (1 − c) to its excess of misses; the rates make log factors of these at the end.
    """
    past = np.concatenate(pasts)
    horizon, n_levels = records[0].at_outcome.shape[:2]
    sizes = [record.happened.shape[1] for record in records]
    starts = np.repeat(np.cumsum([0, *sizes[:-1]]), [len(one) for one in pasts])
    nothing = np.full((horizon, n_levels, 1), np.nan)  # the last column: read where an origin has no such past
    at_outcome = np.concatenate([*(record.at_outcome for record in records), nothing], axis=-1)
    happened = np.concatenate([*(record.happened for record in records), nothing[:, 0] > 0], axis=-1)

    steps, every = np.arange(1, horizon + 1)[:, None], np.arange(horizon)
    excess = np.zeros((horizon, n_levels, past.size))
    then = np.zeros((horizon, *excess.shape))  # when each forecast was made, for the rounds until its last outcome
    for round_ in range(MEMORY - int(past.max(initial=0)), MEMORY):  # the rounds before have no past at all
        row = past - MEMORY + round_
        column = np.where(row < 0, -1, starts + row)
        then[round_ % horizon] = excess
        if path is not None:
            path.append(excess[0].T * RATE)
        made = round_ - every  # the round in which step h's forecast, now known, was made
        outside = at_outcome[:, :, column] > then[made % horizon, every]
        for level in range(1, n_levels):  # inside the bounds of one level is inside those of all above
            outside[:, level] &= outside[:, level - 1]
        gained = outside - (1 - TRACKED_LEVELS[:, None])
        known = (made[:, None] >= 0) & (row + 1 >= steps) & happened[:, column]  # (horizon, n_origins)
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
    return never_narrowing(QuantileForecast(levels, np.exp(log_prices[..., middle, None] + distance)))


def _at_levels(factors: LogFactors, coverage: NDArray[np.float64]) -> NDArray[np.float64]:
    """Factors of other coverage levels, linear between those tracked and constant beyond them."""
    upper = np.clip(np.searchsorted(TRACKED_LEVELS, coverage), 1, TRACKED_LEVELS.size - 1)
    lower = upper - 1
    gap = TRACKED_LEVELS[upper] - TRACKED_LEVELS[lower]
    weight = np.clip((coverage - TRACKED_LEVELS[lower]) / gap, 0.0, 1.0)
    between: NDArray[np.float64] = (1 - weight) * factors[..., lower] + weight * factors[..., upper]
    return between
