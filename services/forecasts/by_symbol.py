"""From a symbol, or from bare prices, to legacy contract v2's answers."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np

from models.base import CLOSE, N_COLUMNS, Bars
from schemas.by_symbol import (
    NOT_KNOWN,
    Answer,
    DailyForecast,
    DayForecast,
    LiveRequest,
    NotKnown,
    PricesRequest,
    Provenance,
    SymbolForecast,
    SymbolForecastRequest,
    SymbolPrediction,
)
from schemas.card import ModelCard
from services.forecasts.by_model import evidence, ticker_warnings, validate_horizon, warnings_of
from services.forecasts.inference import Inference, Origin, Outlook, forecast_windows, origin_of
from services.forecasts.served import ForecastObserver, ServedForecast, unwatched
from services.prices.recent import validate_movement
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry

SENT_ALONG = "request"  # the source of prices that no source of ours supplied


def predict_prices(
    request: PricesRequest, card: ModelCard, doubts: tuple[str, ...], registry: ModelRegistry, now: datetime
) -> SymbolPrediction:
    """The close after the prices given, of which there must be as many as the model looks back.

    ``card`` and ``doubts`` are what the registry's ``card_to_serve`` says.

    Raises:
        ModelNotFound, ArtifactCorrupt: from the registry.
        ZeroVariance: the prices do not move.
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    window = closes_only(request.prices)
    validate_movement(window)
    inference = forecast_windows(registry.load(card), [window], request.levels)
    provenance = Provenance(
        currency=None,
        source=SENT_ALONG,
        stale=None,
        demo=False,
        dropped={},
        repaired={},
        warnings=doubts if request.symbol is None else (*doubts, *ticker_warnings(card, request.symbol)),
    )
    # no session precedes the prices, so nothing moves
    answer = answer_of(card, inference, 1, request.symbol, now, static=True)
    return _prediction(
        answer,
        provenance,
        inference.outlook(0, 1),
        symbol=request.symbol,
        window=window,
        last_close=request.prices[-1],
    )


def predict_live(
    request: LiveRequest,
    registry: ModelRegistry,
    prices: PriceSource,
    now: datetime,
    on_served: ForecastObserver = unwatched,
) -> SymbolPrediction:
    """The close after the newest prices of a symbol, see ``forecast_symbol`` for the errors."""
    card, doubts = registry.card_to_serve(request.model_id)
    forecaster = registry.load(card)
    origin = origin_of(card, forecaster, prices.history(request.symbol, now, forecaster.wanted_sessions), 1)
    inference = forecast_windows(forecaster, [origin.window], request.levels)
    on_served(ServedForecast(card, origin, inference, row=0, made_at=now))
    return _prediction(
        answer_of(card, inference, 1, request.symbol, now),
        provenance_of(card, origin, doubts),
        inference.outlook(0, 1),
        symbol=request.symbol,
        window=origin.window[-card.lookback :],
        last_close=origin.last_close,
        last_session=origin.history.as_of,
        next_session=origin.sessions[0],
        estimated=origin.estimated[0],
    )


def forecast_symbol(
    request: SymbolForecastRequest,
    registry: ModelRegistry,
    prices: PriceSource,
    now: datetime,
    on_served: ForecastObserver = unwatched,
) -> SymbolForecast:
    """The closes of the next ``request.days`` sessions of a symbol.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: from the registry.
        TickerNotFound, UnknownExchange, UpstreamUnavailable: from the price source.
        InsufficientHistory, PricesInvalid, ZeroVariance: see ``origin_of``.
        HorizonTooLong: the model forecasts fewer steps.
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    card, doubts = registry.card_to_serve(request.model_id)
    validate_horizon(card, request.days)
    forecaster = registry.load(card)
    origin = origin_of(card, forecaster, prices.history(request.symbol, now, forecaster.wanted_sessions), request.days)
    inference = forecast_windows(forecaster, [origin.window], request.levels)
    daily = daily_forecast(card, origin, inference.outlook(0, request.days), doubts)
    on_served(ServedForecast(card, origin, inference, row=0, made_at=now))
    return SymbolForecast(
        **dict(answer_of(card, inference, request.days, request.symbol, now)),
        **dict(daily),
        symbol=request.symbol,
        forecast_days=request.days,
    )


def answer_of(
    card: ModelCard, inference: Inference, horizon: int, symbol: str | None, now: datetime, *, static: bool = False
) -> Answer:
    """What an answer says of its model; ``symbol`` is None where it is of many, or of none."""
    return Answer(
        model_id=card.model_id,
        model=card.model,
        target_column=card.target_column,
        test=evidence(card, inference.levels, horizon, symbol, static=static),
        inference_time_ms=inference.elapsed_ms,
        timestamp=timestamp(now),
    )


def provenance_of(card: ModelCard, origin: Origin, doubts: tuple[str, ...]) -> Provenance:
    """What an answer says of its prices; ``doubts`` are those about the model."""
    history = origin.history
    return Provenance(
        currency=history.series.currency,
        source=history.source,
        stale=history.stale,
        demo=history.demo,
        dropped=history.dropped,
        repaired=history.repaired,
        warnings=(*doubts, *warnings_of(card, origin)),
    )


def daily_forecast(card: ModelCard, origin: Origin, outlook: Outlook, doubts: tuple[str, ...]) -> DailyForecast:
    """The sessions to come, each against the last known close."""
    days = zip(origin.sessions, origin.estimated, outlook.prices, outlook.intervals, strict=True)
    return DailyForecast(
        **dict(provenance_of(card, origin, doubts)),
        base_price=origin.last_close,
        base_date=origin.history.as_of,
        persistence=origin.last_value,
        forecast=tuple(
            DayForecast(
                day=day,
                date=session,
                estimated=estimated,
                predicted_price=price,
                expected_change_pct=change_pct(price, origin.last_close),
                intervals=intervals,
            )
            for day, (session, estimated, price, intervals) in enumerate(days, start=1)
        ),
    )


def closes_only(prices: Sequence[float]) -> Bars:
    """Bars of which nothing is known but the close, shape (n, 5)."""
    bars = np.full((len(prices), N_COLUMNS), np.nan)
    bars[:, CLOSE] = prices
    return bars


def change_pct(price: float, last_close: float) -> float:
    """How far ``price`` lies above the last known close, in percent of it.

    >>> change_pct(110.0, 88.0)
    25.0
    """
    return 100 * (price - last_close) / last_close


def timestamp(now: datetime) -> datetime:
    """The moment in UTC, in whole seconds as legacy contract v2 documents it."""
    return now.astimezone(UTC).replace(microsecond=0)


def _prediction(
    answer: Answer,
    provenance: Provenance,
    outlook: Outlook,
    *,
    symbol: str | None,
    window: Bars,
    last_close: float,
    last_session: date | NotKnown = NOT_KNOWN,
    next_session: date | NotKnown = NOT_KNOWN,
    estimated: bool = False,
) -> SymbolPrediction:
    (price,), (intervals,) = outlook.prices, outlook.intervals
    reference = float(window[0, CLOSE])
    return SymbolPrediction(
        **dict(answer),
        **dict(provenance),
        symbol=symbol or NOT_KNOWN,
        predicted_price=price,
        predicted_ratio=price / reference,
        reference_price=reference,
        last_known_price=last_close,
        expected_change_pct=change_pct(price, last_close),
        intervals=intervals,
        persistence=float(window[-1, CLOSE]),
        prediction_for_date=next_session,
        estimated=estimated,
        last_data_date=last_session,
    )
