"""Forecasts of many symbols in one call: prices are fetched side by side, the model runs once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

from errors import AppError
from models.conformal import ServedForecaster
from schemas.batch import BatchForecast, BatchRequest, SymbolError, SymbolResult
from schemas.card import ModelCard
from services.forecasts.by_model import validate_horizon
from services.forecasts.by_symbol import answer_of, daily_forecast
from services.forecasts.inference import Inference, Origin, forecast_windows, origin_of
from services.forecasts.served import ForecastObserver, ServedForecast, unwatched
from services.prices.series import PriceHistory, PriceSource
from services.storage.registry import ModelRegistry

FETCHERS = 8  # at once: enough to hide the waiting, too few to look like an attack on the source


def forecast_batch(
    request: BatchRequest,
    registry: ModelRegistry,
    prices: PriceSource,
    now: datetime,
    on_served: ForecastObserver = unwatched,
) -> BatchForecast:
    """Every symbol's next sessions, or its own error, in the order asked.

    Raises:
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: from the registry.
        HorizonTooLong: the model forecasts fewer steps.
        CalibrationTooSmall: a level the calibration part cannot support.
    """
    card, doubts = registry.card_to_serve(request.model_id)
    validate_horizon(card, request.days)
    forecaster = registry.load(card).static  # to replay the record of hundreds would take a minute
    found = _origins(card, forecaster, request, prices, now)
    known = {symbol: origin for symbol, origin in found.items() if isinstance(origin, Origin)}
    inference = forecast_windows(forecaster, [origin.window for origin in known.values()], request.levels)
    results = {symbol: _failed(symbol, error) for symbol, error in found.items() if isinstance(error, AppError)}
    for row, (symbol, origin) in enumerate(known.items()):
        results[symbol] = _result(symbol, card, origin, inference, row, doubts)
        if results[symbol].error is None:
            on_served(ServedForecast(card, origin, inference, row, made_at=now))
    return BatchForecast(
        **dict(answer_of(card, inference, request.days, None, now, static=True)),
        forecast_days=request.days,
        results=tuple(results[symbol] for symbol in request.symbols),
    )


def _origins(
    card: ModelCard, forecaster: ServedForecaster, request: BatchRequest, prices: PriceSource, now: datetime
) -> dict[str, Origin | AppError]:
    """What is known of each symbol, or why nothing is."""

    def origin(symbol: str) -> Origin | AppError:
        try:
            history = prices.history(symbol, now, forecaster.wanted_sessions)
            return origin_of(card, forecaster, _detached(history, forecaster.wanted_sessions), request.days)
        except AppError as error:
            return error

    with ThreadPoolExecutor(FETCHERS) as pool:
        return dict(zip(request.symbols, pool.map(origin, request.symbols), strict=True))


def _detached(history: PriceHistory, count: int) -> PriceHistory:
    """The last sessions as a copy: a view would keep hundreds of whole histories in memory."""
    recent = history.tail(count)
    series = recent.series
    return replace(recent, series=replace(series, sessions=series.sessions.copy(), bars=series.bars.copy()))


def _result(
    symbol: str, card: ModelCard, origin: Origin, inference: Inference, row: int, doubts: tuple[str, ...]
) -> SymbolResult:
    try:
        outlook = inference.outlook(row, len(origin.sessions))
    except AppError as error:
        return _failed(symbol, error)
    return SymbolResult(symbol=symbol, result=daily_forecast(card, origin, outlook, doubts), error=None)


def _failed(symbol: str, error: AppError) -> SymbolResult:
    told = SymbolError(code=error.code, detail=error.message, status=error.status_code)
    return SymbolResult(symbol=symbol, result=None, error=told)
