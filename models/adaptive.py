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
EXPECTED = 1 - TRACKED_LEVELS  # misses per outcome
TRACKED_BOUNDS = np.concatenate([0.5 - TRACKED_LEVELS[::-1] / 2, [0.5], 0.5 + TRACKED_LEVELS / 2])
IN_CACHE = 1_200_000  # counts of misses that a replay looks back on: with more it waits for the memory
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
        record = self._record(bars, np.arange(first, int(origins.max())))
        ends, of_origins = np.unique(origins - first, return_inverse=True)
        together = max(IN_CACHE // (TRACKED_LEVELS.size * self.horizon**2), 1)
        parts = [ends[begin : begin + together] for begin in range(0, ends.size, together)]
        return np.concatenate([_replay([record], np.maximum(one - MEMORY, 0), one) for one in parts])[of_origins]

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
        lengths, path = lasts - firsts, list[NDArray[np.float64]]()
        longest = lengths.max()
        factors = _replay(records, longest - lengths, np.full_like(lengths, longest), path)
        of_step_one = np.array([*path, factors[:, 0]])  # (n_sessions + 1, n_histories, n_tracked_levels)
        replayed = []
        for row, record in enumerate(records):
            own = of_step_one[len(of_step_one) - len(record.static.prices) :, row, None]
            replayed.append(NextSessions(record.raw, _stretched(record.static, own)))
        return factors, replayed

    def _record(self, bars: Bars, past: Origins, kept: int = 0) -> "_Record":
        actuals = future_closes(bars, past, self.horizon)
        raw = self.static.inner.predict_quantiles(bars, past)
        bounds = self.calibration.quantiles_at(raw, TRACKED_BOUNDS)  # a quarter of the levels, and of the work
        n_known = np.cumsum(_by_session(~np.isnan(actuals), False), axis=0)
        n_known = np.concatenate([np.zeros_like(n_known, shape=(1, self.horizon)), n_known])
        at_outcome = _log_factors_at_outcome(bounds, actuals) + n_known[:-1, :, None] * EXPECTED
        first = _first_step(raw, kept)
        return _Record(_by_session(at_outcome, np.nan), n_known, first, self.calibration.up_to(1).quantiles(first))


@dataclass(frozen=True, eq=False)
class _Record:
    """What became known after each of n successive origins, and what was forecast from the last of them.

    Attributes:
        at_outcome: what ``_log_factors_at_outcome`` returns, plus the misses that were expected of the outcomes known
            when the forecast was made, by the session in which the outcome becomes known, shape (n, horizon, n_levels).
        n_known: outcomes of each step before each session and after the last, shape (n + 1, horizon). A session that
            did not trade is no outcome.
        raw, static: of the inner forecaster, and with static intervals, prices of shape (n_kept, 1, n_levels).
    """

    at_outcome: NDArray[np.float64]
    n_known: NDArray[np.intp]
    raw: QuantileForecast
    static: QuantileForecast


def _first_step(forecast: QuantileForecast, kept: int) -> QuantileForecast:
    """The first step of the last ``kept`` origins, in memory of its own: a view would keep all steps."""
    first = max(len(forecast.prices) - kept, 0)
    return QuantileForecast(forecast.quantile_levels, forecast.prices[first:, :1].copy())


def _log_factors_at_outcome(bounds: QuantileForecast, actuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far out each outcome lay: the ``a`` that would have put the bounds there, in units of its step's rate.

    Shape (n, horizon, n_tracked_levels), from quantiles at TRACKED_BOUNDS. NaN where there is no outcome.
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
        factors: NDArray[np.float64] = np.log(np.abs(error)[..., None] / distance) / _rates(horizon)[:, None] - ROUNDING
    return factors


def _by_session(values: NDArray[Any], nothing: float) -> NDArray[Any]:
    """What becomes known in each session from what is known of each origin's steps, both of shape (n, horizon, …)."""
    known = np.full_like(values, nothing)
    for step in range(min(values.shape[1], len(values))):
        known[step:, step] = values[: len(values) - step, step]
    return known


def _replay(
    records: Sequence[_Record], starts: Origins, ends: Origins, path: list[NDArray[np.float64]] | None = None
) -> LogFactors:
    """Log factors of origins that replay the sessions from ``starts`` to before ``ends``, which ascend.

    All of one record, or each of its own; records end together. The factors of the first step before each session are
    appended to ``path``, shape (n_origins, n_levels).

    The log factor of an origin is misses − (1 − c) · outcomes, in units of the step's rate, both since its start. In
    place of the outcomes since its start, a record has those since its own: an origin's count of misses begins at what
    was expected by then instead of at zero, and a session adds no more than its misses.
    """
    at_outcome = _ends_aligned([record.at_outcome.swapaxes(1, 2) for record in records], np.nan)
    n_known = _ends_aligned([record.n_known for record in records], 0)  # (n_sessions + 1, horizon, n_records)
    n_levels, horizon = at_outcome.shape[1:3]
    steps = np.arange(horizon)
    first_outcomes = starts + steps[:, None]  # (horizon, n_origins)
    misses = np.empty((n_levels, horizon, ends.size))
    then = np.zeros((horizon, *misses.shape))  # when each forecast was made, by the session of its outcome
    for session in range(starts.min(), ends.max()):
        if session <= first_outcomes.max():
            np.copyto(misses, n_known[session] * EXPECTED[:, None, None], where=session <= first_outcomes)
        if path is not None:
            path.append((misses[:, 0] - n_known[session, 0] * EXPECTED[:, None]).T * RATE)
        then[(session + steps) % horizon, :, steps] = misses.swapaxes(0, 1)
        outside = at_outcome[session] > then[session % horizon]  # (n_levels, horizon, n_origins)
        for shift in (1, 2, 4, 8):  # inside the bounds of one level is inside those of all above
            outside[shift:] &= outside[:-shift]
        now = np.searchsorted(ends, session, "right")
        misses[..., now:] += outside[..., now:].view(np.int8)  # numpy adds bools at half the speed
    own = np.arange(ends.size) % len(records)
    before = n_known[np.minimum(first_outcomes, ends), steps[:, None], own]
    n_outcomes = n_known[ends, :, own].T - before
    excess = np.rint(misses - before * EXPECTED[:, None, None]) - n_outcomes * EXPECTED[:, None, None]
    return np.where(n_outcomes > 0, excess, 0.0).T * _rates(horizon)[:, None]


def _ends_aligned(values: Sequence[NDArray[Any]], nothing: float) -> NDArray[Any]:
    """The values of each record, shape (n, …, n_records), the shorter ones after ``nothing``."""
    n = max(map(len, values))
    aligned = np.full((n, *values[0].shape[1:], len(values)), nothing, dtype=values[0].dtype)
    for record, own in enumerate(values):
        aligned[n - len(own) :, ..., record] = own
    return aligned


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
