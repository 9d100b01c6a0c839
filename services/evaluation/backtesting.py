"""Walk-forward backtests: forecast from successive origins, knowing only the past, and score the outcomes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.base import CLOSE, Bars, Forecaster, Origins, QuantileForecast
from models.checked import validate_prices
from models.windows import future_closes
from schemas.backtest import BacktestByMeasure, BacktestReport, BacktestScores, ForecasterReport
from services.evaluation import accuracy
from services.evaluation.accuracy import CRPS_LEVELS, Prices, Values, or_none
from services.evaluation.scorer import Outcomes, score, skill, stacked, steps_with_outcomes
from services.evaluation.significance import p_value

CHUNK = 512  # origins at once: bounds memory whatever the number of origins

ForecasterAt = Callable[[int], Forecaster]
"""The forecaster to use from an origin on, fitted on nothing later than it."""

OnShare = Callable[[float], None]
"""Called with the share that is done; what it raises ends the work."""


@dataclass(frozen=True, eq=False)
class BacktestForecasts(Outcomes):
    """The forecasts of one forecaster from every origin, and the outcomes.

    Attributes:
        quantiles: shape (n_origins, horizon, n_quantile_levels).
        crps_log: CRPS of the log return, shape (n_origins, horizon).
    """

    quantiles: Values
    crps_log: Values


@dataclass(frozen=True, eq=False)
class BacktestConfig:
    """The origins, steps and levels of a backtest.

    Attributes:
        origins: row numbers of the origins, ascending; at least one.
        horizon: steps scored.
        levels: coverage levels of the intervals.
        quantile_levels: levels reported and scored by pinball loss.
        stride: sessions between origins.
        refit_every: origins after which the forecaster is fitted again; None for never.
    """

    origins: Origins
    horizon: int
    levels: tuple[float, ...]
    quantile_levels: tuple[float, ...] = ()
    stride: int = 1
    refit_every: int | None = None


def walk_forward(
    forecaster_at: ForecasterAt, bars: Bars, config: BacktestConfig, on_share: OnShare = lambda _: None
) -> BacktestForecasts:
    """Forecast from every origin with the methods used for serving, and add the outcomes."""
    parts, n_origins = [], config.origins.size
    size = config.refit_every or n_origins
    for first in range(0, n_origins, size):
        block = config.origins[first : first + size]
        forecaster = forecaster_at(int(block[0]))
        for k in range(0, block.size, CHUNK):
            on_share((first + k) / n_origins)
            parts.append(_forecasts_of(forecaster, bars, block[k : k + CHUNK], config))
    return stacked(parts)


def report(
    name: str,
    found: BacktestForecasts,
    empirical: BacktestForecasts | None,
    known_closes: Prices,
    config: BacktestConfig,
) -> ForecasterReport:
    """Scores for every step that has an outcome and overall, with skill against persistence.

    Args:
        name: of the forecaster.
        found: its forecasts.
        empirical: the rolling empirical distribution from the same origins, where the history allows one.
        known_closes: closes up to the first origin; MASE is scaled by their moves.
        config: levels and stride.
    """

    def part(step: int | None) -> BacktestReport:
        one = found if step is None else found.at(step)
        overlap = -(-(step or config.horizon) // config.stride)
        base = score(one, config.levels, step, overlap)
        saved, significance = None, None
        if empirical is not None:
            theirs = empirical.crps_log if step is None else empirical.at(step).crps_log
            saved = skill(accuracy.mean(one.crps_log), accuracy.mean(theirs))
            significance = p_value(one.crps_log, theirs, overlap)
        scores = BacktestScores(
            **dict(base.model),
            mase=or_none(accuracy.mase(one.actual, one.median, known_closes)),
            crps_log_return=accuracy.mean(one.crps_log),
            pinball=accuracy.pinball_loss(one.actual, one.quantiles, np.array(config.quantile_levels)),
            hit_rate=or_none(accuracy.hit_rate(one.actual, one.median, one.last[:, None])),
        )
        return BacktestReport.model_validate(
            {
                **dict(base),
                "model": scores,
                "skill": BacktestByMeasure(**dict(base.skill), crps_vs_rolling_empirical=saved),
                "p_value": BacktestByMeasure(**dict(base.p_value), crps_vs_rolling_empirical=significance),
            }
        )

    return ForecasterReport(name=name, overall=part(None), steps=tuple(map(part, steps_with_outcomes(found))))


def _forecasts_of(forecaster: Forecaster, bars: Bars, origins: Origins, config: BacktestConfig) -> BacktestForecasts:
    forecast = forecaster.predict_quantiles(bars, origins)
    validate_prices(forecast, bars, origins, forecaster.lookback)
    forecast = QuantileForecast(forecast.quantile_levels, forecast.prices[:, : config.horizon])
    last, actual = bars[origins, CLOSE], future_closes(bars, origins, config.horizon)
    grid = forecast.at(CRPS_LEVELS)
    return BacktestForecasts(
        last=last,
        actual=actual,
        **forecast.intervals(config.levels)._asdict(),
        crps=accuracy.crps_losses(actual, grid, CRPS_LEVELS),
        persistence_crps=accuracy.point_crps_losses(actual, np.broadcast_to(last[:, None], actual.shape)),
        quantiles=forecast.at(np.array(config.quantile_levels)),
        crps_log=accuracy.log_return_crps_losses(actual, grid, CRPS_LEVELS),
    )
