"""What a forecaster was worth at some origins, as the documents a card carries."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import CLOSE, Bars, Origins
from models.conformal import ServedForecaster
from models.windows import future_closes
from schemas.accuracy import AccuracyReport, Coverage, PointAccuracy, Skill
from services.evaluation import accuracy

REPORTED_LEVELS = (0.5, 0.8, 0.9, 0.95)
CHUNK = 512  # origins at once: bounds memory whatever the length of a block


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Forecasts and what followed them; origins of several tickers may be stacked.

    Attributes:
        last: value at the origin, shape (n_origins,).
        actual: values at steps 1…horizon, shape (n_origins, horizon), NaN where unknown.
        median: point forecasts, shape (n_origins, horizon).
        lower, upper: bounds at REPORTED_LEVELS, shape (n_origins, horizon, n_levels).
    """

    last: NDArray[np.float64]
    actual: NDArray[np.float64]
    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


def outcomes(forecaster: ServedForecaster, bars: Bars, block: range, stop: int | None = None) -> Outcomes:
    """Forecasts from every origin of a block; nothing at row ``stop`` or beyond counts as known."""
    origins: Origins = np.array(block, dtype=np.intp)
    chunks = [origins[first : first + CHUNK] for first in range(0, max(origins.size, 1), CHUNK)]
    return stacked([_outcomes(forecaster, bars, chunk, stop) for chunk in chunks])


def stacked(parts: Sequence[Outcomes]) -> Outcomes:
    """The outcomes of several tickers as one."""
    return Outcomes(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("last", "actual", "median", "lower", "upper")
        )
    )


def _outcomes(forecaster: ServedForecaster, bars: Bars, origins: Origins, stop: int | None) -> Outcomes:
    forecast = forecaster.predict_intervals(bars, origins, REPORTED_LEVELS)
    actual = future_closes(bars, origins, forecaster.horizon, stop)
    return Outcomes(bars[origins, CLOSE], actual, forecast.median, forecast.lower, forecast.upper)


def accuracy_report(found: Outcomes) -> AccuracyReport:
    """One-step accuracy, with that of persistence from the same origins."""
    known = ~np.isnan(found.actual[:, 0])
    actual, last = found.actual[known, 0], found.last[known]
    model = _point_accuracy(actual, found.median[known, 0])
    persistence = _point_accuracy(actual, last)
    return AccuracyReport(
        n_origins=int(known.sum()), model=model, persistence=persistence, skill=_skill(model, persistence)
    )


def coverage_report(found: Outcomes) -> tuple[Coverage, ...]:
    """The share of actuals inside each interval, for every step with an actual and every reported level."""
    reports = []
    for h in range(found.actual.shape[1]):
        actual = found.actual[:, h]
        n_known = int((~np.isnan(actual)).sum())
        if not n_known:
            continue
        for k, level in enumerate(REPORTED_LEVELS):
            share = accuracy.coverage(actual, found.lower[:, h, k], found.upper[:, h, k])
            reports.append(Coverage(step=h + 1, level=level, empirical_coverage=round(share, 4), n_origins=n_known))
    return tuple(reports)


def significant(figure: float) -> float:
    """Six significant digits: what a measurement carries."""
    return float(f"{figure:.6g}")


def _point_accuracy(actual: NDArray[np.float64], forecast: NDArray[np.float64]) -> PointAccuracy:
    r2 = accuracy.r2(actual, forecast)
    return PointAccuracy(
        mae=significant(accuracy.mae(actual, forecast)),
        mape=significant(accuracy.mape(actual, forecast)),
        rmse=significant(accuracy.rmse(actual, forecast)),
        r2=None if np.isnan(r2) else significant(r2),
    )


def _skill(model: PointAccuracy, persistence: PointAccuracy) -> Skill | None:
    if persistence.mae == 0:
        return None
    return Skill(
        mae=significant(accuracy.skill(model.mae, persistence.mae)),
        mape=significant(accuracy.skill(model.mape, persistence.mape)),
        rmse=significant(accuracy.skill(model.rmse, persistence.rmse)),
    )
