"""Whether served forecasts keep their promise: coverage and skill of all tickers, with their standard errors."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from schemas.common import DEFAULT_LEVELS
from schemas.realised import ForecastOutcome, SessionScores
from services.evaluation.significance import long_run_variance
from telemetry.measures import COVERAGE_DEVIATION, COVERAGE_Z, SKILL, SKILL_Z, Meter

MIN_PAIRS, MIN_SESSIONS = 50, 20  # fewer say nothing
SIGNIFICANT_Z = 3.0  # by chance once in 370 for a normal distribution
LAGS = 5  # sessions over which misses stay alike: volatility comes in clusters

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """The coverage of one level.

    Attributes:
        share: of closes inside the intervals.
        z: its distance from the level in standard errors.
    """

    level: float
    share: float
    z: float

    @property
    def deviation(self) -> float:
        """The distance from the level; 0 where chance may explain it."""
        return abs(self.share - self.level) if abs(self.z) >= SIGNIFICANT_Z else 0.0


@dataclass(frozen=True)
class Skill:
    """The skill of the forecasts against no change, and the same in standard errors."""

    value: float
    z: float


def measure_overall(scores: Iterable[SessionScores], meter: Meter) -> None:
    """Record coverage and skill of one-step forecasts, where there are enough."""
    by_session: dict[date, list[ForecastOutcome]] = defaultdict(list)
    for one in scores:
        by_session[one.session] += [pair for pair in one.pairs if pair.step == 1]
    sessions = [by_session[session] for session in sorted(by_session) if by_session[session]]
    for level in DEFAULT_LEVELS:
        coverage = coverage_of(sessions, level)
        if coverage is not None:
            meter.record(COVERAGE_Z, coverage.z, level=f"{level:g}")
            meter.record(COVERAGE_DEVIATION, coverage.deviation, level=f"{level:g}")
    for measure in ("mae", "crps"):
        skill = skill_of(sessions, measure)
        if skill is not None:
            meter.record(SKILL, skill.value, measure=measure)
            meter.record(SKILL_Z, skill.z, measure=measure)


def coverage_of(sessions: Sequence[Sequence[ForecastOutcome]], level: float) -> Coverage | None:
    """The coverage of a level over sessions in order; None with too few.

    Tickers move together, so the standard error is that of the sums of each session, and of neighbouring ones. It is
    at least that of independent closes.
    """
    inside = [
        np.array([_is_inside(pair, level) for pair in pairs if level in pair.levels], dtype=np.float64)
        for pairs in sessions
    ]
    inside = [one for one in inside if one.size]
    n_pairs = sum(one.size for one in inside)
    if n_pairs < MIN_PAIRS or len(inside) < MIN_SESSIONS:
        return None
    excess = np.array([(one - level).sum() for one in inside])
    variance = max(len(inside) * long_run_variance(excess, LAGS, centre=False), n_pairs * level * (1 - level))
    return Coverage(level, level + float(excess.sum()) / n_pairs, float(excess.sum()) / math.sqrt(variance))


def skill_of(sessions: Sequence[Sequence[ForecastOutcome]], measure: str) -> Skill | None:
    """The skill over sessions in order; None with too few, or without any difference.

    Losses are divided by the price, so that tickers count alike, and averaged over each session.
    """
    if len(sessions) < MIN_SESSIONS or sum(map(len, sessions)) < MIN_PAIRS:
        return None
    losses = np.array([np.mean([_losses(pair, measure) for pair in pairs], axis=0) for pairs in sessions])
    saved = losses[:, 1] - losses[:, 0]
    variance = long_run_variance(saved, LAGS)
    if variance <= 0 or losses[:, 1].sum() <= 0:
        return None
    return Skill(
        value=float(1 - losses[:, 0].sum() / losses[:, 1].sum()),
        z=float(saved.mean()) / math.sqrt(variance / len(saved)),
    )


def _is_inside(pair: ForecastOutcome, level: float) -> bool:
    column = pair.levels.index(level)
    return pair.lower[column] <= pair.actual <= pair.upper[column]


def _losses(pair: ForecastOutcome, measure: str) -> tuple[float, float]:
    """The loss of the forecast and of no change."""
    if measure == "crps":
        return pair.crps / pair.last, pair.persistence_crps / pair.last
    return abs(pair.actual - pair.median) / pair.last, abs(pair.actual - pair.last) / pair.last
