"""Forecasts by symbol: legacy contract v2's routes, and many symbols at once."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.exceptions import RequestValidationError

from errors import CalibrationTooSmall, HorizonTooLong, PricesInvalid, ZeroVariance
from routers.answers import batch_forecast, symbol_forecast, symbol_prediction
from routers.dependencies import RuntimeDep
from routers.guard import READS, GuardedRoute, in_memory_first
from routers.problems import FORECAST_PROBLEMS, MODEL_PROBLEMS, problems
from schemas.batch import BatchForecast, BatchRequest
from schemas.by_symbol import (
    LiveRequest,
    PricesRequest,
    SymbolForecast,
    SymbolForecastRequest,
    SymbolPrediction,
)
from services.forecasting.forecast import Forecast

router = APIRouter(route_class=GuardedRoute, prefix="/predict", tags=["predict"])

EXAMPLE_PRICES = [round(28 + 0.05 * day + 0.2 * (day % 3), 2) for day in range(60)]


@router.post(
    "",
    summary="The next close, from prices that you send",
    openapi_extra=READS,
    responses=problems(*MODEL_PROBLEMS, CalibrationTooSmall, ZeroVariance, PricesInvalid),
)
@in_memory_first
def from_prices(
    request: Annotated[PricesRequest, Body(examples=[{"symbol": "PETR4.SA", "prices": EXAMPLE_PRICES}])],
    runtime: RuntimeDep,
) -> SymbolPrediction:
    """Forecast from as many closes as the model's lookback, 60 for the bundled one, oldest first.

    The dates of the closes are unknown, so dates in the answer are "N/A".
    """
    model = runtime.registry.serve(request.model_id)
    validate_count("prices", expected=model.card.lookback, found=len(request.prices))
    forecast = runtime.forecasting.forecast_closes(model, request.prices, request.levels, runtime.clock())
    runtime.forecast_log.record("manual", forecast.elapsed_ms)
    return symbol_prediction(forecast, request.symbol)


@router.post(
    "/live",
    summary="The next close of a symbol",
    openapi_extra=READS,
    responses=problems(*FORECAST_PROBLEMS),
)
@in_memory_first
def live(
    request: Annotated[LiveRequest, Body(examples=[{"symbol": "^GSPC"}])], runtime: RuntimeDep
) -> SymbolPrediction:
    """Forecast the close of the session after the newest prices of a symbol."""
    forecast = runtime.forecasting.forecast_ticker(request.model_id, request.symbol, 1, request.levels, runtime.clock())
    runtime.forecast_log.record("live", forecast.elapsed_ms, forecast)
    return symbol_prediction(forecast)


@router.post(
    "/forecast",
    summary="The next closes of a symbol",
    openapi_extra=READS,
    responses=problems(*FORECAST_PROBLEMS, HorizonTooLong),
)
@in_memory_first
def forecast(
    request: Annotated[SymbolForecastRequest, Body(examples=[{"symbol": "^GSPC", "days": 5}])], runtime: RuntimeDep
) -> SymbolForecast:
    """Forecast up to 30 sessions of the exchange; holidays are left out."""
    forecast = runtime.forecasting.forecast_ticker(
        request.model_id, request.symbol, request.days, request.levels, runtime.clock()
    )
    runtime.forecast_log.record("forecast", forecast.elapsed_ms, forecast)
    return symbol_forecast(forecast)


@router.post(
    "/batch",
    summary="The next closes of many symbols",
    openapi_extra=READS,
    responses=problems(*MODEL_PROBLEMS, CalibrationTooSmall, HorizonTooLong),
)
def batch(
    request: Annotated[BatchRequest, Body(examples=[{"symbols": ["^GSPC", "^IXIC"], "days": 5}])], runtime: RuntimeDep
) -> BatchForecast:
    """Forecast up to 500 symbols in one call; a symbol that fails has its own error and affects no other.

    The first batch after a session takes about 0.05 s per symbol. Later batches reuse its results and are faster.
    """
    batch = runtime.forecasting.forecast_tickers(
        request.model_id, request.symbols, request.days, request.levels, runtime.clock()
    )
    made = [one for one in batch.forecasts.values() if isinstance(one, Forecast)]
    runtime.forecast_log.record("batch", batch.elapsed_ms, *made)
    return batch_forecast(batch)


def validate_count(field: str, *, expected: int, found: int) -> None:
    """Answer 422 for a list whose length does not fit the model."""
    if found != expected:
        message = f"expected {expected} items, found {found}"
        raise RequestValidationError([{"type": "wrong_count", "loc": ("body", field), "msg": message}])
