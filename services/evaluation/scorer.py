"""The one scorer: accuracy, skill with its p-value, and coverage, for backtests, cards and served forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

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
    """Forecasts and what followed them; origins of several tickers may be stacked.

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


OutcomesT = TypeVar("OutcomesT", bound=Outcomes)


def stacked(parts: Sequence[OutcomesT]) -> OutcomesT:
    """The origins of all parts as one."""
    kind = type(parts[0])
    return kind(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(kind)))


def score(
    found: Outcomes,
    levels: Sequence[float],
    step: int | None,
    stride: int = 1,
    sessions: NDArray[np.datetime64] | None = None,
) -> DetailedReport:
    """Scores of one step, or of all together, with skill against persistence from the same origins.

    Args:
        found: with an outcome at ``step``, origins in order.
        levels: coverage levels of ``lower`` and ``upper``.
        step: None scores all steps together.
        stride: sessions between origins.
        sessions: of each origin, where tickers are stacked: what they share on a day is then one observation.
    """
    columns = slice(None) if step is None else slice(step - 1, step)
    actual = found.actual[:, columns]
    model, own = _scored(actual, found.median[:, columns], found.crps[:, columns])
    last = np.broadcast_to(found.last[:, None], actual.shape)
    persistence, theirs = _scored(actual, last, found.persistence_crps[:, columns])
    overlap = -(-(step or actual.shape[1]) // stride)  # origins whose outcomes share sessions
    return DetailedReport(
        step=step,
        n_origins=_n_known(actual),
        model=model,
        persistence=persistence,
        skill=ByMeasure(**{name: skill(getattr(model, name), getattr(persistence, name)) for name in MEASURES}),
        p_value=ByMeasure(**{name: p_value(own[name], theirs[name], overlap, sessions) for name in MEASURES}),
        coverage=tuple(_intervals(actual, found.lower[:, columns], found.upper[:, columns], levels)),
    )


def card_report(report: StepReport) -> StepReport:
    """What a card keeps of a report: six significant digits, no widths."""
    kept = report.model_dump(exclude={"coverage": {"__all__": {"width", "interval_score"}}})
    return StepReport.model_validate(_rounded(kept))


def card_reports(
    found: Outcomes, levels: Sequence[float], sessions: NDArray[np.datetime64] | None = None
) -> tuple[StepReport, ...]:
    """A card's report of every step that has an outcome."""
    return tuple(card_report(score(found, levels, step, sessions=sessions)) for step in steps_with_outcomes(found))


def steps_with_outcomes(found: Outcomes) -> tuple[int, ...]:
    return tuple((np.flatnonzero(~np.isnan(found.actual).all(axis=0)) + 1).tolist())


def significant(figure: float) -> float:
    """Six significant digits: what a measurement carries."""
    return float(f"{figure:.6g}")


def skill(score: float, reference: float) -> float | None:
    return or_none(accuracy.skill(score, reference))


def _n_known(actual: Values) -> int:
    return int((~np.isnan(actual)).any(axis=1).sum())


def _scored(actual: Values, forecast: Values, crps: Values) -> tuple[Scores, dict[str, Values]]:
    """The scores, and by the name of each measure the losses that it averages."""
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


def _intervals(actual: Values, lower: Values, upper: Values, levels: Sequence[float]) -> list[IntervalScores]:
    reports = []
    for k, level in enumerate(levels):
        outcome = np.where(np.isnan(lower[..., k]), np.nan, actual)  # forecasts without this level do not count
        if np.isnan(outcome).all():
            continue
        reports.append(
            IntervalScores(
                level=level,
                empirical_coverage=accuracy.coverage(outcome, lower[..., k], upper[..., k]),
                n_origins=_n_known(outcome),
                width=accuracy.width(outcome, lower[..., k], upper[..., k]),
                interval_score=accuracy.interval_score(outcome, lower[..., k], upper[..., k], level),
            )
        )
    return reports


def _rounded(value: JsonValue) -> JsonValue:
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
