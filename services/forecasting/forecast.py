"""What a forecast is made from, and what comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from errors import AppError, InsufficientHistory, PricesInvalid, ZeroVariance
from models.base import CLOSE, Bars, QuantileForecast, closes_only
from models.conformal import ServedForecaster
from models.windows import lookback_windows
from schemas.card import ModelCard
from services.prices.calendars import is_estimated, next_sessions
from services.prices.cleaning import validate_completeness
from services.prices.quality import estimated_warning, price_warnings
from services.prices.series import PriceHistory


@dataclass(frozen=True, eq=False)
class Model:
    """A stored model, loaded; ``warnings`` say so where it stands in for another."""

    card: ModelCard
    forecaster: ServedForecaster
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ForecastInput:
    """One ticker's prices as a model reads them.

    Attributes:
        bars: the target column in the place of the close, at least ``lookback`` sessions, shape (n, 5).
        prices: where the bars come from; None for prices that the caller sent.
        sessions: those to forecast; empty for prices that the caller sent.
        warnings: about the prices.
    """

    bars: Bars
    prices: PriceHistory | None = None
    sessions: tuple[date, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_history(cls, model: Model, history: PriceHistory, horizon: int) -> "ForecastInput":
        """The newest sessions of a history, as many as the model wants where there are so many.

        Raises:
            InsufficientHistory: fewer sessions than the model's lookback.
            PricesInvalid: more than half of the rows among them had no usable price.
            ZeroVariance: the closes in the lookback window are all the same.
        """
        card, exchange = model.card, history.series.exchange
        targeted = history.with_target(card.target_column).tail(model.forecaster.wanted_sessions)
        found = len(targeted.series)
        if found < card.lookback:
            raise InsufficientHistory(history.series.ticker, needed=card.lookback, found=found)
        validate_completeness(targeted)
        bars = targeted.series.bars
        _validate_movement(lookback_windows(bars, np.array([found - 1]), card.lookback)[0, :, CLOSE])
        # the target may be unknown in the newest rows, which then are not part of what is known
        last = None if targeted.as_of == history.as_of else targeted.as_of
        recent = history.between(targeted.series.first_session, last)
        sessions = next_sessions(exchange, targeted.as_of, horizon)
        warnings = (*_model_warnings(card, recent), *price_warnings(recent, card.lookback))
        if is_estimated(exchange, sessions[-1]):
            warnings = (*warnings, estimated_warning(exchange))
        return cls(bars, recent, sessions, warnings)

    @classmethod
    def from_closes(cls, closes: Sequence[float]) -> "ForecastInput":
        """Prices that a caller sent, of which only the closes are known; ZeroVariance where they are all the same."""
        bars = closes_only(np.array(closes, dtype=np.float64))
        _validate_movement(bars[:, CLOSE])
        return cls(bars)

    @property
    def history(self) -> PriceHistory:
        assert self.prices is not None  # noqa: S101 - not asked of prices that the caller sent
        return self.prices

    @property
    def last_value(self) -> float:
        """The newest value of the target column, which persistence repeats."""
        return float(self.bars[-1, CLOSE])


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
        model: Model,
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
        horizon, n = max(len(given.sessions), 1), len(levels)
        steps = QuantileForecast(distribution.quantile_levels, distribution.prices[:, :horizon])
        half = np.array(levels) / 2
        bounds = steps.at(np.concatenate([[0.5], 0.5 - half, 0.5 + half]))[0]  # (horizon, 1 + 2 · n_levels)
        if not np.isfinite(bounds).all():
            raise PricesInvalid("the prices jump too far for any finite forecast")
        median, lower, upper = bounds[:, 0], bounds[:, 1 : n + 1], bounds[:, n + 1 :]
        warnings = (*model.warnings, *given.warnings)
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


def ticker_warnings(card: ModelCard, ticker: str) -> tuple[str, ...]:
    """A warning where the model was fitted on other tickers."""
    if ticker in card.tickers:
        return ()
    return (f"the model was fitted and tested on {', '.join(card.tickers)}, not on {ticker}",)


def _model_warnings(card: ModelCard, history: PriceHistory) -> tuple[str, ...]:
    warnings = ticker_warnings(card, history.series.ticker)
    if history.as_of < card.last_session:
        return (*warnings, f"the model was fitted on prices up to {card.last_session}: this forecast looks back")
    return warnings


def _validate_movement(closes: NDArray[np.float64]) -> None:
    """Refuse a window whose closes are all the same.

    Models measure in units of a window's own volatility. Without any, their intervals shrink to a numerical floor
    and claim a certainty that a halted or pegged price does not have.
    """
    if len(closes) > 1 and closes.min() == closes.max():
        raise ZeroVariance(f"the last {len(closes)} prices are all {closes[0]:.8g}: there is no volatility to measure")
