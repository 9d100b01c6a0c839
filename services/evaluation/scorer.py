"""The one scorer: accuracy, skill with its p-value, and coverage, for backtests, cards and served forecasts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from schemas.accuracy import ByMeasure, DetailedReport, IntervalScores, Scores, StepReport
from services.evaluation import accuracy
from services.evaluation.accuracy import Values, or_none
from services.evaluation.significance import p_value

MEASURES = tuple(ByMeasure.model_fields)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Forecasts and their outcomes; origins of several tickers may be stacked.

    Attributes:
        last: price at the origin, which persistence repeats, shape (n_origins,).
        actual: prices that followed, shape (n_origins, horizon), NaN where unknown.
        median: point forecasts, shape (n_origins, horizon).
        lower, upper: interval bounds, shape (n_origins, horizon, n_levels), NaN where a forecast lacks a level.
        crps, persistence_crps: of each forecast, shape (n_origins, horizon).
    """

    last: Values
    actual: Values
    median: Values
    lower: Values
    upper: Values
    crps: Values
    persistence_crps: Values

    def at(self, step: int) -> Self:
        """One step alone."""
        columns = {field.name: getattr(self, field.name)[:, step - 1 : step] for field in fields(self)[1:]}
        return replace(self, **columns)


OutcomesT = TypeVar("OutcomesT", bound=Outcomes)


def stacked(parts: Sequence[OutcomesT]) -> OutcomesT:
    """The origins of all parts as one."""
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))


def score(
    found: Outcomes,
    levels: Sequence[float],
    step: int | None,
    overlap: int | None = None,
    sessions: NDArray[np.datetime64] | None = None,
) -> DetailedReport:
    """Scores, with skill against persistence from the same origins.

    Args:
        found: of one step or several, with an outcome; origins in order.
        levels: coverage levels of ``lower`` and ``upper``.
        step: of all outcomes; None where there are several.
        overlap: successive origins whose outcomes share sessions; by default ``step``.
        sessions: of each origin, where tickers are stacked: forecasts of one session count once in p-values.
    """
    model, own = _scored(found.actual, found.median, found.crps)
    last = np.broadcast_to(found.last[:, None], found.actual.shape)
    persistence, theirs = _scored(found.actual, last, found.persistence_crps)
    shared = overlap or step or found.actual.shape[1]
    return DetailedReport(
        step=step,
        n_origins=_n_known(found.actual),
        model=model,
        persistence=persistence,
        skill=ByMeasure(**{name: skill(getattr(model, name), getattr(persistence, name)) for name in MEASURES}),
        p_value=ByMeasure(**{name: p_value(own[name], theirs[name], shared, sessions) for name in MEASURES}),
        coverage=tuple(_intervals(found, levels)),
    )


def card_report(report: StepReport) -> StepReport:
    """The report as a card stores it: six significant digits, no widths."""
    kept = report.model_dump(exclude={"coverage": {"__all__": {"width", "interval_score"}}})
    return StepReport.model_validate(_rounded(kept))


def card_reports(
    found: Outcomes, levels: Sequence[float], sessions: NDArray[np.datetime64] | None = None
) -> tuple[StepReport, ...]:
    """A card's report of every step that has an outcome."""
    steps = steps_with_outcomes(found)
    return tuple(card_report(score(found.at(step), levels, step, sessions=sessions)) for step in steps)


def steps_with_outcomes(found: Outcomes) -> tuple[int, ...]:
    return tuple((np.flatnonzero(~np.isnan(found.actual).all(axis=0)) + 1).tolist())


def significant(figure: float) -> float:
    """Round to six significant digits."""
    return float(f"{figure:.6g}")


def skill(score: float, reference: float) -> float | None:
    return or_none(accuracy.skill(score, reference))


def _n_known(actual: Values) -> int:
    return int((~np.isnan(actual)).any(axis=1).sum())


def _scored(actual: Values, forecast: Values, crps: Values) -> tuple[Scores, dict[str, Values]]:
    """The scores, and for each measure the losses that it averages."""
    error = np.abs(actual - forecast)
    crps = np.where(np.isnan(actual), np.nan, crps)
    scores = Scores(
        mae=accuracy.mae(actual, forecast),
        mape=accuracy.mape(actual, forecast),
        rmse=accuracy.rmse(actual, forecast),
        r2=or_none(accuracy.r2(actual, forecast)),
        crps=accuracy.mean(crps),
    )
    return scores, {"mae": error, "mape": error / actual, "rmse": error**2, "crps": crps}


def _intervals(found: Outcomes, levels: Sequence[float]) -> Iterator[IntervalScores]:
    for k, level in enumerate(levels):
        lower, upper = found.lower[..., k], found.upper[..., k]
        actual = np.where(np.isnan(lower), np.nan, found.actual)  # forecasts without this level do not count
        if not np.isnan(actual).all():
            yield IntervalScores(
                level=level,
                empirical_coverage=accuracy.coverage(actual, lower, upper),
                n_origins=_n_known(actual),
                width=accuracy.width(actual, lower, upper),
                interval_score=accuracy.interval_score(actual, lower, upper, level),
            )


def _rounded(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
