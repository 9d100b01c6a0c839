"""Walk forward: forecast from successive origins with only the past known, and score what came of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.adaptive import AdaptiveForecaster
from models.base import CLOSE, Bars, Forecaster, Origins, QuantileForecast
from models.conformal import CalibratedForecaster, IntervalForecast
from models.windows import future_closes
from schemas.backtest import ForecasterReport, IntervalScores, ScoredPart, Scores, SkillScores
from services.evaluation import accuracy
from services.evaluation.accuracy import CRPS_LEVELS
from services.evaluation.significance import diebold_mariano

CHUNK = 512  # origins at once: bounds memory whatever the number of origins

ForecasterAt = Callable[[int], Forecaster]
"""The forecaster to use from an origin on, fitted on nothing later than it."""


@dataclass(frozen=True, eq=False)
class BacktestForecasts:
    """What a forecaster said at every origin, and what followed.

    Attributes:
        last: close at the origin, shape (n_origins,).
        actual: closes that followed, shape (n_origins, horizon), NaN where unknown.
        median: point forecasts, shape (n_origins, horizon).
        lower, upper: interval bounds, shape (n_origins, horizon, n_coverage_levels).
        quantiles: shape (n_origins, horizon, n_quantile_levels).
        crps, crps_log: per pair, shape (n_origins, horizon), in price and in log return.
    """

    last: NDArray[np.float64]
    actual: NDArray[np.float64]
    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    quantiles: NDArray[np.float64]
    crps: NDArray[np.float64]
    crps_log: NDArray[np.float64]


@dataclass(frozen=True)
class BacktestConfig:
    """What a backtest runs over.

    Attributes:
        origins: row numbers of the origins, ascending.
        horizon: steps scored.
        levels: coverage levels of the intervals.
        quantile_levels: levels told and scored by pinball loss.
        stride: sessions between origins.
        refit_every: origins after which the forecaster is asked for anew; None for once.
    """

    origins: Origins
    horizon: int
    levels: tuple[float, ...]
    quantile_levels: tuple[float, ...]
    stride: int
    refit_every: int | None = None


def walk_forward(forecaster_at: ForecasterAt, bars: Bars, plan: BacktestConfig) -> BacktestForecasts:
    """The track of a forecaster, by the same methods that serve."""
    parts = [
        _track(forecaster, bars, origins, plan)
        for forecaster, block in _blocks(forecaster_at, plan)
        for origins in _chunks(block)
    ]
    names = BacktestForecasts.__dataclass_fields__
    return BacktestForecasts(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def report(
    name: str,
    track: BacktestForecasts,
    persistence: BacktestForecasts,
    empirical: BacktestForecasts | None,
    mase_scale: float,
    plan: BacktestConfig,
) -> ForecasterReport:
    """A track's scores for every step that has an outcome and overall, with skill against persistence.

    Args:
        name: of the forecaster.
        track: what is scored.
        persistence: from the same origins.
        empirical: the rolling empirical distribution from the same origins, where the history allows one.
        mase_scale: MAE of one-step persistence before the first origin.
        plan: levels and stride.
    """

    def part(step: int | None) -> ScoredPart:
        columns = slice(None) if step is None else slice(step - 1, step)
        own = _scores(track, columns, mase_scale, plan)
        theirs = _scores(persistence, columns, mase_scale, plan)
        empirical_crps = None if empirical is None else float(np.nanmean(empirical.crps_log[:, columns]))
        return ScoredPart(
            step=step,
            scores=own,
            skill=SkillScores(
                mae=_skill(own.mae, theirs.mae),
                rmse=_skill(own.rmse, theirs.rmse),
                mape=_skill(own.mape, theirs.mape),
                crps=_skill(own.crps, theirs.crps),
                crps_vs_rolling_empirical=_skill(own.crps_log_return, empirical_crps),
            ),
            p_value=_p_value(track, persistence, columns, plan),
        )

    scored = [step for step in range(1, plan.horizon + 1) if not np.isnan(track.actual[:, step - 1]).all()]
    return ForecasterReport(name=name, overall=part(None), steps=tuple(map(part, scored)))


def _blocks(forecaster_at: ForecasterAt, plan: BacktestConfig) -> Iterator[tuple[Forecaster, Origins]]:
    size = plan.refit_every or plan.origins.size
    for first in range(0, plan.origins.size, size):
        block = plan.origins[first : first + size]
        yield forecaster_at(int(block[0])), block


def _chunks(origins: Origins) -> Iterator[Origins]:
    for first in range(0, origins.size, CHUNK):
        yield origins[first : first + CHUNK]


def _track(forecaster: Forecaster, bars: Bars, origins: Origins, plan: BacktestConfig) -> BacktestForecasts:
    forecast, intervals = _forecasts(forecaster, bars, origins, plan)
    last, actual = bars[origins, CLOSE], future_closes(bars, origins, plan.horizon)
    grid = forecast.at(CRPS_LEVELS)
    return BacktestForecasts(
        last=last,
        actual=actual,
        median=intervals.median,
        lower=intervals.lower,
        upper=intervals.upper,
        quantiles=forecast.at(np.array(plan.quantile_levels)),
        crps=accuracy.crps_losses(actual, grid, CRPS_LEVELS),
        crps_log=accuracy.log_return_crps_losses(actual, grid, CRPS_LEVELS),
    )


def _first_steps(forecast: QuantileForecast, horizon: int) -> QuantileForecast:
    return QuantileForecast(forecast.quantile_levels, forecast.prices[:, :horizon])


def _forecasts(
    forecaster: Forecaster, bars: Bars, origins: Origins, plan: BacktestConfig
) -> tuple[QuantileForecast, IntervalForecast]:
    """The distribution, and with it the intervals that are promised, or of a baseline those its quantiles bound."""
    if isinstance(forecaster, CalibratedForecaster | AdaptiveForecaster):
        promised = forecaster.predict_intervals(bars, origins, plan.levels)
        assert promised.distribution is not None  # noqa: S101 - every calibrated forecaster tells it
        first = slice(plan.horizon)
        intervals = IntervalForecast(promised.median[:, first], promised.lower[:, first], promised.upper[:, first])
        return _first_steps(promised.distribution(), plan.horizon), intervals
    forecast = _first_steps(forecaster.predict_quantiles(bars, origins), plan.horizon)
    half = np.array(plan.levels) / 2
    return forecast, IntervalForecast(forecast.median, lower=forecast.at(0.5 - half), upper=forecast.at(0.5 + half))


def _scores(track: BacktestForecasts, columns: slice, mase_scale: float, plan: BacktestConfig) -> Scores:
    known = ~np.isnan(track.actual[:, columns])
    actual, median = track.actual[:, columns][known], track.median[:, columns][known]
    last = np.broadcast_to(track.last[:, None], known.shape)[known]
    quantiles = track.quantiles[:, columns][known]  # (n, n_quantile_levels)
    lower, upper = track.lower[:, columns][known], track.upper[:, columns][known]  # (n, n_levels)
    mae = accuracy.mae(actual, median)
    return Scores(
        n=int(known.sum()),
        mae=mae,
        rmse=accuracy.rmse(actual, median),
        mape=accuracy.mape(actual, median),
        mase=mae / mase_scale if mase_scale > 0 else None,
        r2=_or_none(accuracy.r2(actual, median)),
        crps=float(track.crps[:, columns][known].mean()),
        crps_log_return=float(track.crps_log[:, columns][known].mean()),
        pinball=accuracy.pinball_loss(actual, quantiles, np.array(plan.quantile_levels)),
        hit_rate=_or_none(accuracy.hit_rate(actual, median, last)),
        intervals=tuple(
            IntervalScores(
                level=level,
                coverage=accuracy.coverage(actual, lower[:, k], upper[:, k]),
                width=accuracy.width(actual, lower[:, k], upper[:, k]),
                interval_score=accuracy.interval_score(actual, lower[:, k], upper[:, k], level),
            )
            for k, level in enumerate(plan.levels)
        ),
    )


def _p_value(
    track: BacktestForecasts, persistence: BacktestForecasts, columns: slice, plan: BacktestConfig
) -> float | None:
    """Of the mean absolute error over the steps chosen, per origin that has them all."""
    own = np.abs(track.actual - track.median)[:, columns].mean(axis=1)
    theirs = np.abs(persistence.actual - persistence.median)[:, columns].mean(axis=1)
    known = ~np.isnan(own)
    furthest = track.actual.shape[1] if columns.stop is None else columns.stop
    overlap = -(-furthest // plan.stride)  # origins whose outcomes share sessions
    if known.sum() < 2 * overlap + 2:
        return None
    return _or_none(diebold_mariano(own[known], theirs[known], overlap))


def _skill(score: float, reference: float | None) -> float | None:
    return None if reference is None else _or_none(accuracy.skill(score, reference))


def _or_none(figure: float) -> float | None:
    return None if np.isnan(figure) else figure
