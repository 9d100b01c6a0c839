"""From a stored model and the newest prices to a forecast with its interval, baseline and evidence."""

from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from errors import HorizonTooLong, InsufficientHistory, InvalidRequest
from models.base import CLOSE
from models.conformal import IntervalForecast
from schemas.card import ModelCard
from schemas.predict import (
    Evidence,
    ForecastContext,
    ForecastRequest,
    ForecastResponse,
    Interval,
    PredictRequest,
    PredictResponse,
    Step,
)
from services.prices.calendars import next_sessions
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import ModelRegistry


@dataclass(frozen=True)
class Outlook:
    """What is known at the origin, and what the model makes of it.

    ``last_value`` is the newest value of the model's target column, which persistence repeats.
    """

    card: ModelCard
    history: PriceHistory
    last_value: float
    levels: tuple[float, ...]
    forecast: IntervalForecast
    sessions: tuple[date, ...]


def predict(
    model_id: str, request: PredictRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> PredictResponse:
    """The close of the next session, see ``forecast`` for the errors."""
    outlook = _outlook(model_id, request, 1, registry, prices, now)
    (step,) = _steps(outlook)
    return PredictResponse(
        **dict(_context(outlook)),
        prediction=(step.price,),
        target_session=step.session,
        intervals=step.intervals,
        persistence=step.persistence,
    )


def forecast(
    model_id: str, request: ForecastRequest, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> ForecastResponse:
    """The closes of the next ``request.horizon`` sessions.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: from the registry.
        TickerNotFound, UpstreamUnavailable: from the price source.
        InsufficientHistory: fewer sessions than the model's lookback.
        HorizonTooLong: the model forecasts fewer steps.
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    outlook = _outlook(model_id, request, request.horizon, registry, prices, now)
    return ForecastResponse(**dict(_context(outlook)), horizon=request.horizon, forecast=_steps(outlook))


def _outlook(
    model_id: str, request: PredictRequest, horizon: int, registry: ModelRegistry, prices: PriceSource, now: datetime
) -> Outlook:
    card = registry.card(model_id)
    if horizon > card.horizon:
        raise HorizonTooLong(f"asked for {horizon} sessions, model {model_id!r} forecasts {card.horizon}")
    forecaster = registry.load(card)
    ticker = request.ticker or _own_ticker(card)
    history = prices.history(ticker, now).between(None, request.as_of).tail(card.lookback)
    if len(history.series) < card.lookback:
        raise InsufficientHistory(ticker, needed=card.lookback, found=len(history.series))
    bars = history.series.bars_of(card.target_column)
    return Outlook(
        card=card,
        history=history,
        last_value=float(bars[-1, CLOSE]),
        levels=request.levels,
        forecast=forecaster.predict_intervals(bars, np.array([len(bars) - 1]), request.levels),
        sessions=next_sessions(ticker, history.as_of, horizon),
    )


def _own_ticker(card: ModelCard) -> str:
    if len(card.tickers) > 1:
        raise InvalidRequest(f"model {card.model_id!r} was fitted on {', '.join(card.tickers)}: say which ticker")
    return card.tickers[0]


def _steps(outlook: Outlook) -> tuple[Step, ...]:
    median = outlook.forecast.median[0].tolist()
    lower, upper = outlook.forecast.lower[0].tolist(), outlook.forecast.upper[0].tolist()
    return tuple(
        Step(
            step=h + 1,
            session=session,
            price=median[h],
            intervals=tuple(
                Interval(level=level, lower=lower[h][k], upper=upper[h][k]) for k, level in enumerate(outlook.levels)
            ),
            persistence=outlook.last_value,
        )
        for h, session in enumerate(outlook.sessions)
    )


def _context(outlook: Outlook) -> ForecastContext:
    card, history = outlook.card, outlook.history
    return ForecastContext(
        model_id=card.model_id,
        model=card.model,
        ticker=history.series.ticker,
        currency=history.series.currency,
        source=history.source,
        as_of=history.as_of,
        stale=history.stale,
        dropped=dict(history.dropped),
        target_column=card.target_column,
        last_close=float(history.series.close[-1]),
        last_session=history.as_of,
        test=Evidence(
            accuracy=card.test,
            coverage=tuple(
                reached
                for reached in card.coverage
                if reached.step <= len(outlook.sessions) and reached.level in outlook.levels
            ),
        ),
        warnings=_warnings(card, history),
    )


def _warnings(card: ModelCard, history: PriceHistory) -> tuple[str, ...]:
    ticker, warnings = history.series.ticker, []
    if ticker not in card.tickers:
        warnings.append(f"the model was fitted and tested on {', '.join(card.tickers)}, not on {ticker}")
    if history.stale:
        warnings.append(f"the newest session known is {history.as_of}: later ones could not be had")
    if history.as_of < card.last_session:
        warnings.append(f"the model was made with prices up to {card.last_session}: this forecast looks back")
    return tuple(warnings)
