"""What comes out of the one path to a forecast."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from errors import AppError, PricesInvalid
from models.base import QuantileForecast
from schemas.card import ModelCard
from services.forecasting.forecast_input import ForecastInput
from services.prices.series import PriceHistory
from services.storage.registry import ServedModel


@dataclass(frozen=True, eq=False)
class Forecast:
    """One ticker's forecast.

    Attributes:
        card: of the model.
        given: the prices.
        levels: coverage levels of the intervals.
        distribution: calibrated quantiles of every step, prices of shape (1, horizon, n_quantile_levels).
        median: shape (horizon,).
        lower, upper: interval bounds, shape (horizon, n_levels).
        warnings: about the model and the prices.
        made_at: when.
        elapsed_ms: what the model took; next to nothing where the same forecast was made before.
    """

    card: ModelCard
    given: ForecastInput
    levels: tuple[float, ...]
    distribution: QuantileForecast
    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    warnings: tuple[str, ...]
    made_at: datetime
    elapsed_ms: float

    @classmethod
    def of(
        cls,
        model: ServedModel,
        given: ForecastInput,
        distribution: QuantileForecast,
        levels: tuple[float, ...],
        made_at: datetime,
        elapsed_ms: float,
    ) -> "Forecast":
        """The sessions of ``given`` out of a distribution of more steps; of one step where there are no sessions.

        Raises:
            PricesInvalid: prices that jump so far that a bound leaves the range of numbers.
        """
        horizon = max(len(given.sessions), 1)
        steps = QuantileForecast(distribution.quantile_levels, distribution.prices[:, :horizon])
        median, lower, upper = (prices[0] for prices in steps.intervals(levels))
        if not all(np.isfinite(one).all() for one in (median, lower, upper)):
            raise PricesInvalid("the prices jump too far for any finite forecast")
        warnings = (*model.warnings, *_model_warnings(model.card, given.source), *given.warnings)
        return cls(model.card, given, levels, steps, median, lower, upper, warnings, made_at, elapsed_ms)


@dataclass(frozen=True, eq=False)
class Batch:
    """Forecasts of many tickers by one model, in the order of the request; an error in the place of one that failed."""

    card: ModelCard
    horizon: int
    levels: tuple[float, ...]
    forecasts: Mapping[str, Forecast | AppError]
    made_at: datetime
    elapsed_ms: float


def ticker_warnings(card: ModelCard, ticker: str | None) -> tuple[str, ...]:
    """A warning where the model was fitted on other tickers than this one."""
    if ticker is None or ticker in card.tickers:
        return ()
    return (f"the model was fitted and tested on {', '.join(card.tickers)}, not on {ticker}",)


def _model_warnings(card: ModelCard, history: PriceHistory | None) -> tuple[str, ...]:
    if history is None:
        return ()
    warnings = ticker_warnings(card, history.series.ticker)
    if history.as_of < card.last_session:
        return (*warnings, f"the model was fitted on prices up to {card.last_session}: this forecast looks back")
    return warnings
