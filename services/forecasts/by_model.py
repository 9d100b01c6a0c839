"""From a stored model and the newest prices to a forecast with its interval, baseline and evidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from errors import HorizonTooLong, InvalidRequest
from schemas.card import ModelCard
from schemas.predict import (
    Evidence,
    ForecastContext,
    ForecastRequest,
    ForecastResponse,
    PredictRequest,
    PredictResponse,
    Step,
)
from services.forecasts.inference import Origin, Outlook, forecast_windows, origin_of
from services.forecasts.served import ForecastObserver, ServedForecast, unwatched
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry


def predict(
    model_id: str,
    request: PredictRequest,
    registry: ModelRegistry,
    prices: PriceSource,
    now: datetime,
    on_served: ForecastObserver = unwatched,
) -> PredictResponse:
    """The close of the next session, see ``forecast`` for the errors."""
    answer = _answer(model_id, request, 1, registry, prices, now, on_served)
    (step,) = answer.steps
    return PredictResponse(
        **dict(answer.context),
        prediction=(step.price,),
        target_session=step.session,
        estimated=step.estimated,
        intervals=step.intervals,
        persistence=step.persistence,
    )


def forecast(
    model_id: str,
    request: ForecastRequest,
    registry: ModelRegistry,
    prices: PriceSource,
    now: datetime,
    on_served: ForecastObserver = unwatched,
) -> ForecastResponse:
    """The closes of the next ``request.horizon`` sessions.

    ``on_served`` is told, unless the request looks back: what would have been forecast was not.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: from the registry.
        TickerNotFound, UpstreamUnavailable: from the price source.
        InsufficientHistory: fewer sessions than the model's lookback.
        ZeroVariance: its prices did not move over the whole lookback.
        HorizonTooLong: the model forecasts fewer steps.
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    answer = _answer(model_id, request, request.horizon, registry, prices, now, on_served)
    return ForecastResponse(**dict(answer.context), horizon=request.horizon, forecast=answer.steps)


def validate_horizon(card: ModelCard, horizon: int) -> None:
    """Refuse more steps than the model was made for, with HorizonTooLong."""
    if horizon > card.horizon:
        raise HorizonTooLong(f"asked for {horizon} sessions, model {card.model_id!r} forecasts {card.horizon}")


def evidence(
    card: ModelCard, levels: Sequence[float], horizon: int, ticker: str | None, *, static: bool = False
) -> Evidence:
    """The accuracy and coverage of the same sessions at the farthest step asked for."""
    tickers, report = (card.tickers, card.test_closes_only) if static else card.evidence(ticker, horizon)
    coverage = tuple(one for one in report.coverage if one.level in levels)
    return Evidence.model_validate({**dict(report), "tickers": tickers, "coverage": coverage})


def warnings_of(card: ModelCard, origin: Origin) -> tuple[str, ...]:
    """What a reader of the forecast should know of its prices."""
    history = origin.history
    warnings = [*ticker_warnings(card, history.series.ticker), *origin.warnings]
    if history.as_of < card.last_session:
        warnings.append(f"the model was made with prices up to {card.last_session}: this forecast looks back")
    return tuple(warnings)


def ticker_warnings(card: ModelCard, ticker: str) -> tuple[str, ...]:
    """Says so where the model was fitted to others."""
    if ticker in card.tickers:
        return ()
    return (f"the model was fitted and tested on {', '.join(card.tickers)}, not on {ticker}",)


def own_ticker(card: ModelCard) -> str:
    """The one ticker of a model.

    Raises:
        InvalidRequest: it was fitted on several, so that a request must say which.
    """
    if len(card.tickers) > 1:
        raise InvalidRequest(f"model {card.model_id!r} was fitted on {', '.join(card.tickers)}: say which ticker")
    return card.tickers[0]


@dataclass(frozen=True)
class _Answer:
    """What both answers are made of."""

    context: ForecastContext
    steps: tuple[Step, ...]


def _answer(
    model_id: str,
    request: PredictRequest,
    horizon: int,
    registry: ModelRegistry,
    prices: PriceSource,
    now: datetime,
    on_served: ForecastObserver,
) -> _Answer:
    card, doubts = registry.card_to_serve(model_id)
    validate_horizon(card, horizon)
    forecaster = registry.load(card)
    ticker = request.ticker or own_ticker(card)
    # an earlier origin may lie anywhere in the history
    recent = forecaster.wanted_sessions if request.as_of is None else None
    history = prices.history(ticker, now, recent).between(None, request.as_of)
    origin = origin_of(card, forecaster, history, horizon)
    inference = forecast_windows(forecaster, [origin.window], request.levels)
    outlook = inference.outlook(0, horizon)
    if request.as_of is None:
        on_served(ServedForecast(card, origin, inference, row=0, made_at=now))
    return _Answer(_context(card, origin, request.levels, doubts), _steps(origin, outlook))


def _steps(origin: Origin, outlook: Outlook) -> tuple[Step, ...]:
    return tuple(
        Step(
            step=h,
            session=session,
            estimated=estimated,
            price=price,
            intervals=intervals,
            persistence=origin.last_value,
        )
        for h, (session, estimated, price, intervals) in enumerate(
            zip(origin.sessions, origin.estimated, outlook.prices, outlook.intervals, strict=True), start=1
        )
    )


def _context(card: ModelCard, origin: Origin, levels: tuple[float, ...], doubts: tuple[str, ...]) -> ForecastContext:
    history = origin.history
    return ForecastContext(
        model_id=card.model_id,
        model=card.model,
        ticker=history.series.ticker,
        currency=history.series.currency,
        source=history.source,
        as_of=history.as_of,
        stale=history.stale,
        demo=history.demo,
        dropped=history.dropped,
        repaired=history.repaired,
        target_column=card.target_column,
        last_close=origin.last_close,
        last_session=history.as_of,
        test=evidence(card, levels, len(origin.sessions), history.series.ticker),
        warnings=(*doubts, *warnings_of(card, origin)),
    )
