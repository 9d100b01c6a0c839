"""Scores of recorded forecasts, by the scorer of backtests and cards."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.peers.task import HORIZON, LEVELS, Past, Rows, Task, Values
from benchmarks.universe_scores import LEVELS as COVERAGES
from benchmarks.universe_scores import STEPS as SCORED
from benchmarks.universe_scores import Bootstrap, Estimate, Row, Scores, coverages, differences, share_better, skills
from models.base import Bars, Origins, QuantileForecast
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward

STEPS = (1, 5, 20)
BOOTSTRAP = Bootstrap(block=1)  # origins lie HORIZON sessions apart, so their outcomes share no session

COLUMNS = [SCORED.index(step) for step in STEPS]


class Recorded:
    """A forecaster that repeats what a method has forecast from these rows of a history."""

    lookback = 1
    horizon = HORIZON

    def __init__(self, rows: Rows, quantiles: Values) -> None:
        self._at = {int(row): k for k, row in enumerate(rows)}
        self._quantiles = quantiles

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:  # noqa: ARG002 - of the protocol
        return QuantileForecast(LEVELS, self._quantiles[[self._at[int(row)] for row in origins]])


@dataclass(frozen=True)
class Accuracy:
    """The figures of one method at each of STEPS.

    Attributes:
        skill: CRPS skill against the reference, percent.
        behind_ours: the skill of the universal network minus this one, points.
        ours_better: share of tickers on which the universal network has the lower CRPS, percent.
        coverage: of the intervals of each of the two levels, percent.
        mae_ratio: mean absolute error of the median over that of no change, each relative to the last close.
    """

    skill: tuple[Estimate, ...]
    behind_ours: tuple[Estimate, ...]
    ours_better: tuple[float, ...]
    coverage: tuple[tuple[Estimate, ...], ...]
    mae_ratio: tuple[Estimate, ...]


@dataclass(frozen=True, eq=False)
class Judged:
    """One method's forecasts with their outcomes.

    Attributes:
        scores: CRPS and hits, by ticker.
        errors: absolute error of the median, relative to the last close, shape (n_origins, len(STEPS)), by ticker.
        unchanged: the same of no change.
    """

    scores: Row
    errors: Mapping[str, Values]
    unchanged: Mapping[str, Values]


def judge(task: Task, found: Mapping[str, Values]) -> Judged:
    """Compare the quantiles of every ticker with the closes that followed."""
    scores, errors, unchanged = {}, {}, {}
    columns = np.array(STEPS) - 1
    for past in task.tested:
        rows = task.rows(past)
        forecaster = Recorded(rows, found[past.ticker])
        scores[past.ticker] = Scores.of(forecaster, past.bars, past.sessions, rows)
        outcome = _outcome(forecaster, past, rows)
        actual, last = outcome.actual[:, columns], outcome.last[:, None]
        errors[past.ticker] = np.abs(actual - outcome.median[:, columns]) / last
        unchanged[past.ticker] = np.abs(actual - last) / last
    return Judged(scores, errors, unchanged)


def _outcome(forecaster: Recorded, past: Past, rows: Rows) -> BacktestForecasts:
    return walk_forward(lambda _: forecaster, past.bars, BacktestConfig(rows, HORIZON, COVERAGES))


def accuracy(method: Judged, reference: Judged, ours: Judged) -> Accuracy:
    """The figures of one method over all tickers and origins."""
    everywhere = tuple({int(str(day)[:4]) for one in method.scores.values() for day in one.sessions})
    by_step = coverages(method.scores, BOOTSTRAP, everywhere)
    behind = differences(ours.scores, method.scores, reference.scores, BOOTSTRAP)
    better = share_better(ours.scores, method.scores)
    return Accuracy(
        skill=_chosen(skills(method.scores, reference.scores, BOOTSTRAP)),
        behind_ours=_chosen(behind),
        ours_better=tuple(better[k] for k in COLUMNS),
        coverage=tuple(by_step[k] for k in COLUMNS),
        mae_ratio=tuple(_ratio(method, k) for k in range(len(STEPS))),
    )


def _chosen(estimates: tuple[Estimate, ...]) -> tuple[Estimate, ...]:
    return tuple(estimates[k] for k in COLUMNS)


def _ratio(method: Judged, column: int) -> Estimate:
    """Σ error / Σ error of no change, drawn by dates."""
    sessions = np.concatenate([one.sessions for one in method.scores.values()])
    own, theirs = (
        np.concatenate([one[:, column] for one in by_ticker.values()])
        for by_ticker in (method.errors, method.unchanged)
    )
    known = ~np.isnan(own)
    _, day = np.unique(sessions[known], return_inverse=True)
    sums = (np.bincount(day, weights=values[known]).astype(np.float64) for values in (own, theirs))
    return BOOTSTRAP.estimate(*sums)
