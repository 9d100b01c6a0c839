"""What comes out of the one path to a forecast."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from errors import AppError, PricesInvalid
from models.base import QuantileForecast
from schemas.accuracy import StepReport
from schemas.card import ModelCard
from schemas.predict import Evidence, Explanation, Interval, MarketInputs
from services.forecasting.explain import Width, expected_moves, explanation, market_inputs
from services.forecasting.forecast_input import ForecastInput
from services.prices.series import PriceHistory
from services.storage.registry import ServedModel

_Prices = NDArray[np.float64]
_Bounds = tuple[QuantileForecast, _Prices, _Prices, _Prices, tuple[tuple[Interval, ...], ...]]


@dataclass(frozen=True, eq=False)
class Forecast:
    """One ticker's forecast.

    Attributes:
        card: of the model.
        alias: the alias that led to the model; None for a model that was named by its id.
        given: the prices.
        levels: coverage levels of the intervals.
        distribution: calibrated quantiles of every step, prices of shape (1, horizon, n_quantile_levels).
        median: shape (horizon,).
        lower, upper: interval bounds, shape (horizon, n_levels).
        intervals: the same bounds of every step, as answers have them.
        test: how accurate the model was at the last step.
        warnings: about the model and the prices.
        made_at: when.
        elapsed_ms: what the model took; next to nothing where the same forecast was made before.
        inputs: the market that the model read.
        explanation: why the forecast is as wide as it is.
    """

    card: ModelCard
    alias: str | None
    given: ForecastInput
    levels: tuple[float, ...]
    distribution: QuantileForecast
    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    intervals: tuple[tuple[Interval, ...], ...]
    test: Evidence
    warnings: tuple[str, ...]
    made_at: datetime
    elapsed_ms: float
    inputs: MarketInputs
    explanation: Explanation

    @classmethod
    def of(
        cls,
        model: ServedModel,
        given: ForecastInput,
        distribution: QuantileForecast,
        levels: tuple[float, ...],
        made_at: datetime,
        elapsed_ms: float,
        width: Width | None = None,
    ) -> "Forecast":
        """The sessions of ``given`` out of a distribution of more steps; of one step where there are no sessions.

        ``width`` is None where no year precedes the forecast.

        Raises:
            PricesInvalid: prices that jump so far that a bound leaves the range of numbers.
        """
        horizon = max(len(given.sessions), 1)
        steps, median, lower, upper, intervals = _bounds(distribution, horizon, levels)
        about, test = _about(model, given.source, horizon, levels)
        warnings = (*about, *given.warnings)
        inputs, explained = _explained(model, given, distribution, width)
        return cls(
            card=model.card,
            alias=model.alias,
            given=given,
            levels=levels,
            distribution=steps,
            median=median,
            lower=lower,
            upper=upper,
            intervals=intervals,
            test=test,
            warnings=warnings,
            made_at=made_at,
            elapsed_ms=elapsed_ms,
            inputs=inputs,
            explanation=explained,
        )


@lru_cache(maxsize=64)
def _bounds(distribution: QuantileForecast, horizon: int, levels: tuple[float, ...]) -> _Bounds:
    steps = QuantileForecast(distribution.quantile_levels, distribution.prices[:, :horizon])
    median, lower, upper = (prices[0] for prices in steps.intervals(levels))
    if not all(np.isfinite(one).all() for one in (median, lower, upper)):
        raise PricesInvalid("the prices jump too far for any finite forecast")
    intervals = tuple(
        tuple(Interval(level=level, lower=low, upper=high) for level, low, high in zip(levels, *bounds, strict=True))
        for bounds in zip(lower.tolist(), upper.tolist(), strict=True)
    )
    return steps, median, lower, upper, intervals


@lru_cache(maxsize=64)
def _about(
    model: ServedModel, history: PriceHistory | None, horizon: int, levels: tuple[float, ...]
) -> tuple[tuple[str, ...], Evidence]:
    """The warnings about the model, and how accurate it was at the farthest step."""
    card, warnings = model.card, model.warnings
    if history is None:
        return warnings, evidence(card, card.named_tickers, card.test_closes_only, levels)
    ticker = history.series.ticker
    warnings = (*warnings, *ticker_warnings(card, ticker))
    if history.as_of < card.last_session:
        warnings = (*warnings, f"the model was fitted on prices up to {card.last_session}: this forecast looks back")
    return warnings, evidence(card, *card.evidence(ticker, horizon), levels)


@lru_cache(maxsize=64)
def _explained(
    model: ServedModel, given: ForecastInput, distribution: QuantileForecast, width: Width | None
) -> tuple[MarketInputs, Explanation]:
    card, ticker = model.card, None if given.source is None else given.source.series.ticker
    inputs = market_inputs(given, card.lookback, reads_market=card.reads_market)
    expected = float(expected_moves(distribution)[0])
    return inputs, explanation(expected, width, ticker, inputs, reads_market=card.reads_market)


def evidence(card: ModelCard, tickers: tuple[str, ...], report: StepReport, levels: tuple[float, ...]) -> Evidence:
    """A report of these tickers, or of the card's universe, as answers have it: coverage of the levels asked for."""
    coverage = tuple(one for one in report.coverage if one.level in levels)
    universe = None if tickers else card.universe
    return Evidence(**{**dict(report), "coverage": coverage}, tickers=tickers, universe=universe)


@dataclass(frozen=True, eq=False)
class Batch:
    """Forecasts of many tickers in the order of the request; an error in the place of one that failed.

    Attributes:
        card: of the model that answers for tickers without a model of their own.
        alias: that led to it.
    """

    card: ModelCard
    alias: str | None
    horizon: int
    levels: tuple[float, ...]
    forecasts: Mapping[str, Forecast | AppError]
    made_at: datetime
    elapsed_ms: float


def ticker_warnings(card: ModelCard, ticker: str | None) -> tuple[str, ...]:
    """A warning where the model was fitted on other tickers than this one; a universe's model is for every ticker."""
    if ticker is None or card.universe is not None or ticker in card.tickers:
        return ()
    return (f"the model was fitted and tested on {card.fitted_on}, not on {ticker}",)
