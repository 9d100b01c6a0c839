"""Forecasts by symbol: legacy contract v2's routes, and many symbols at once."""

from typing import Annotated

from fastapi import APIRouter, Body
from fastapi.exceptions import RequestValidationError

from errors import CalibrationTooSmall, HorizonTooLong, PricesInvalid, ZeroVariance
from routers.dependencies import ForecastLogDep, ForecastPricesDep, MeterDep, NowDep, RegistryDep, record_prediction
from routers.problems import FORECAST_PROBLEMS, MODEL_PROBLEMS, problems
from schemas.batch import BatchForecast, BatchRequest
from schemas.by_symbol import (
    LiveRequest,
    PricesRequest,
    SymbolForecast,
    SymbolForecastRequest,
    SymbolPrediction,
)
from services.forecasts.batch import forecast_batch
from services.forecasts.by_symbol import forecast_symbol, predict_live, predict_prices

router = APIRouter(prefix="/predict", tags=["predict"])

EXAMPLE_PRICES = [round(28 + 0.05 * day + 0.2 * (day % 3), 2) for day in range(60)]


@router.post(
    "",
    summary="The next close, from prices sent along",
    responses=problems(*MODEL_PROBLEMS, CalibrationTooSmall, ZeroVariance, PricesInvalid),
)
def from_prices(
    request: Annotated[PricesRequest, Body(examples=[{"symbol": "PETR4.SA", "prices": EXAMPLE_PRICES}])],
    registry: RegistryDep,
    now: NowDep,
    meter: MeterDep,
) -> SymbolPrediction:
    """Forecast from as many closes as the model looks back, 60 for the bundled one, oldest first.

    Their dates are not known, so the answer's are null.
    """
    card, doubts = registry.card_to_serve(request.model_id)
    validate_count("prices", expected=card.lookback, found=len(request.prices))
    answer = predict_prices(request, card, doubts, registry, now)
    record_prediction(meter, "manual", answer.inference_time_ms)
    return answer


@router.post("/live", summary="The next close of a symbol", responses=problems(*FORECAST_PROBLEMS))
def live(
    request: Annotated[LiveRequest, Body(examples=[{"symbol": "^GSPC"}])],
    registry: RegistryDep,
    prices: ForecastPricesDep,
    now: NowDep,
    meter: MeterDep,
    log: ForecastLogDep,
) -> SymbolPrediction:
    """Forecast the session after the newest prices of a symbol."""
    answer = predict_live(request, registry, prices, now, log.record)
    record_prediction(meter, "live", answer.inference_time_ms)
    return answer


@router.post(
    "/forecast",
    summary="The next closes of a symbol",
    responses=problems(*FORECAST_PROBLEMS, HorizonTooLong),
)
def forecast(
    request: Annotated[SymbolForecastRequest, Body(examples=[{"symbol": "^GSPC", "days": 5}])],
    registry: RegistryDep,
    prices: ForecastPricesDep,
    now: NowDep,
    meter: MeterDep,
    log: ForecastLogDep,
) -> SymbolForecast:
    """Forecast up to 30 sessions; they are the exchange's own, holidays left out."""
    answer = forecast_symbol(request, registry, prices, now, log.record)
    record_prediction(meter, "forecast", answer.inference_time_ms)
    return answer


@router.post(
    "/batch",
    summary="The next closes of many symbols",
    responses=problems(*MODEL_PROBLEMS, CalibrationTooSmall, HorizonTooLong),
)
def batch(
    request: Annotated[BatchRequest, Body(examples=[{"symbols": ["^GSPC", "^IXIC"], "days": 5}])],
    registry: RegistryDep,
    prices: ForecastPricesDep,
    now: NowDep,
    meter: MeterDep,
    log: ForecastLogDep,
) -> BatchForecast:
    """Forecast up to 500 symbols in one call; a symbol that fails has its own error and spoils no other."""
    answer = forecast_batch(request, registry, prices, now, log.record)
    record_prediction(meter, "batch", answer.inference_time_ms)
    return answer


def validate_count(field: str, *, expected: int, found: int) -> None:
    """Answer 422 for a list of the wrong length, where only the model knows the right one.

    Raises:
        RequestValidationError: names the field.
    """
    if found != expected:
        message = f"expected {expected} items, found {found}"
        raise RequestValidationError([{"type": "wrong_count", "loc": ("body", field), "msg": message}])
