"""Scores of many tickers' forecasts, pooled by date, with standard errors of a block bootstrap over dates.

Forecasts of one date share the market's surprise, and those of neighbouring dates share sessions. Resampled are
therefore blocks of successive dates with the forecasts of all tickers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from models.base import Bars, Forecaster
from services.evaluation.backtesting import BacktestConfig, walk_forward
from services.prices.series import Sessions

STEPS = (1, 5, 10, 20)
LEVELS = (0.8, 0.95)
REPLICATIONS = 2000
INTERVAL = (2.5, 97.5)  # percentiles of a 95 % interval

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """The forecasts of one ticker, or of several one after the other.

    Attributes:
        sessions: of each origin, shape (n_origins,).
        crps: of the log return, shape (n_origins, len(STEPS)), NaN where there is no outcome.
        inside: 1 where the interval contains the outcome, else 0, NaN where there is none, shape
            (n_origins, len(STEPS), len(LEVELS)).
    """

    sessions: Sessions
    crps: Values
    inside: Values

    @classmethod
    def of(cls, forecaster: Forecaster, bars: Bars, sessions: Sessions, origins: NDArray[np.intp]) -> "Scores":
        """Scores of the forecasts from these rows of ``bars``."""
        found = walk_forward(lambda _: forecaster, bars, BacktestConfig(origins, max(STEPS), LEVELS))
        columns = np.array(STEPS) - 1
        actual = found.actual[:, columns, None]
        inside = (actual >= found.lower[:, columns]) & (actual <= found.upper[:, columns])
        return cls(
            sessions[origins],
            found.crps_log[:, columns],
            np.where(np.isnan(actual), np.nan, inside),
        )

    def since(self, day: date) -> "Scores":
        """Those of the origins not before this date."""
        return self._kept(self.sessions >= np.datetime64(day))

    def on(self, dates: Sessions) -> "Scores":
        """Those of the origins on these dates."""
        return self._kept(np.isin(self.sessions, dates))

    def _kept(self, kept: NDArray[np.bool_]) -> "Scores":
        return Scores(self.sessions[kept], self.crps[kept], self.inside[kept])


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error and its 95 % interval."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Block bootstrap of ratios of sums over dates.

    Attributes:
        block: successive dates that are drawn together.
        seed: of the draws, which are the same for every figure with as many dates.
    """

    block: int
    seed: int = 0

    def estimate(self, numerator: Values, denominator: Values) -> Estimate:
        """The ratio of the sums, both (n_dates,)."""
        rows = self._rows(len(numerator))
        drawn = numerator[rows].sum(axis=1) / denominator[rows].sum(axis=1)
        low, high = np.percentile(drawn, INTERVAL)
        return Estimate(float(numerator.sum() / denominator.sum()), float(drawn.std(ddof=1)), float(low), float(high))

    def _rows(self, n_dates: int) -> NDArray[np.intp]:
        """Dates of each replication, (REPLICATIONS, about n_dates); the last date is followed by the first."""
        rng = np.random.default_rng(self.seed)
        starts = rng.integers(0, n_dates, size=(REPLICATIONS, -(-n_dates // self.block)))
        rows: NDArray[np.intp] = (starts[..., None] + np.arange(self.block)) % n_dates
        return rows.reshape(REPLICATIONS, -1)


Row = Mapping[str, Scores]
"""The scores of one model by ticker."""


def skills(row: Row, reference: Row, bootstrap: Bootstrap) -> tuple[Estimate, ...]:
    """1 − Σ CRPS / Σ CRPS of the reference at each of STEPS, percent."""
    return _saved(row, reference, reference, bootstrap)


def differences(row: Row, other: Row, reference: Row, bootstrap: Bootstrap) -> tuple[Estimate, ...]:
    """The skill of ``row`` minus that of ``other`` at each of STEPS, from the same forecasts, percentage points."""
    return _saved(row, other, reference, bootstrap)


def _saved(row: Row, other: Row, reference: Row, bootstrap: Bootstrap) -> tuple[Estimate, ...]:
    """Σ (CRPS of ``other`` − CRPS of ``row``) / Σ CRPS of the reference at each of STEPS, percent."""
    sessions = _stacked(row, lambda one: one.sessions)
    own, theirs, denominator = (_stacked(one, lambda s: s.crps, row) for one in (row, other, reference))
    return tuple(
        bootstrap.estimate(*_by_date(sessions, 100 * (theirs - own)[:, k], denominator[:, k]))
        for k in range(len(STEPS))
    )


def coverages(row: Row, bootstrap: Bootstrap, years: Sequence[int]) -> tuple[tuple[Estimate, ...], ...]:
    """The share of outcomes inside their interval in these years, percent, for each of STEPS and LEVELS."""
    sessions, inside = _stacked(row, lambda one: one.sessions), _stacked(row, lambda one: one.inside)
    kept = np.isin(sessions.astype("datetime64[Y]").astype(int) + 1970, years)
    sessions, inside = sessions[kept], inside[kept]
    return tuple(
        tuple(
            bootstrap.estimate(*_by_date(sessions, 100 * inside[:, k, level], np.ones(len(inside))))
            for level in range(len(LEVELS))
        )
        for k in range(len(STEPS))
    )


def share_better(row: Row, other: Row) -> tuple[float, ...]:
    """The share of tickers on which the mean CRPS of ``row`` is below that of ``other``, at each of STEPS, percent."""
    better = [np.nanmean(row[ticker].crps, axis=0) < np.nanmean(other[ticker].crps, axis=0) for ticker in row]
    return tuple((100 * np.mean(better, axis=0)).tolist())


def years_of(row: Row) -> tuple[int, ...]:
    return tuple(sorted({int(str(session)[:4]) for one in row.values() for session in one.sessions}))


def _stacked(row: Row, column: Callable[[Scores], NDArray], order: Row | None = None) -> NDArray:  # type: ignore[type-arg]
    return np.concatenate([column(row[ticker]) for ticker in order or row])


def _by_date(sessions: Sessions, numerator: Values, denominator: Values) -> tuple[Values, Values]:
    """Sums of what is known on each date, in order of the dates."""
    known = ~np.isnan(numerator + denominator)
    _, day = np.unique(sessions[known], return_inverse=True)
    return _sums(day, numerator[known]), _sums(day, denominator[known])


def _sums(day: NDArray[np.intp], values: Values) -> Values:
    return np.asarray(np.bincount(day, values), dtype=np.float64)
