"""Forecast with, backtest, list and delete models; legacy contract v1's routes among them."""

from contextlib import nullcontext
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response
from starlette.convertors import StringConvertor, register_url_convertor

from bootstrap import Runtime
from errors import (
    HorizonTooLong,
    InvalidRequest,
    ModelInUse,
    ModelNotFound,
    StoreUnavailable,
    TrainingCapacityExceeded,
    TrainingUnavailable,
)
from routers.answers import forecast_response, predict_response
from routers.dependencies import RuntimeDep, validate_not_future
from routers.problems import FORECAST_PROBLEMS, MODEL_PROBLEMS, PRICE_PROBLEMS, problems
from schemas.alias import Alias, AliasList, AliasName, AliasRequest
from schemas.backtest import BacktestRequest, BacktestResponse
from schemas.card import ModelCard
from schemas.challenge import EvaluationPage
from schemas.common import MODEL_ID_PATTERN, MODEL_NAME_PATTERN, OF_TICKER, ModelId, Ticker
from schemas.fetch_data import FetchDataRequest, FetchDataResponse
from schemas.job import JOB_ID_PATTERN
from schemas.models import ModelPage
from schemas.predict import ForecastRequest, ForecastResponse, PredictRequest, PredictResponse
from services.backtest import backtest
from services.catalogue import list_models
from services.forecasting.forecast import Forecast
from services.market_data import fetch_data
from services.storage.evaluations import evaluation_page

router = APIRouter(prefix="/models", tags=["models"])


class _AliasConvertor(StringConvertor):
    """One segment, or two where the first is that of the aliases of tickers: a further segment is another address."""

    regex = f"(?:{OF_TICKER})?[^/]+"


register_url_convertor("alias", _AliasConvertor())

# ":path" in the routes lets an id with an encoded slash reach this pattern: it is malformed, not another address
ModelIdPath = Annotated[
    str,
    Path(
        pattern=MODEL_NAME_PATTERN,
        max_length=64,
        description="Id of a stored model, or an alias.",
        examples=["gspc-20261121-1a2b3c4d"],
    ),
]


@router.post(
    "/{model_id:path}/predict",
    summary="The next session's close",
    responses=problems(*FORECAST_PROBLEMS, InvalidRequest),
)
def predict_next(
    model_id: ModelIdPath,
    runtime: RuntimeDep,
    request: Annotated[PredictRequest | None, Body(examples=[{"levels": [0.8, 0.95]}])] = None,
) -> PredictResponse:
    """Forecast the next close, with intervals, the no-change forecast and the model's accuracy on its test part."""
    return predict_response(_forecast(model_id, request or PredictRequest(), 1, "live", runtime))


@router.post(
    "/{model_id:path}/forecast",
    summary="The closes of the next sessions",
    responses=problems(*FORECAST_PROBLEMS, InvalidRequest, HorizonTooLong),
)
def forecast_sessions(
    model_id: ModelIdPath,
    runtime: RuntimeDep,
    request: Annotated[ForecastRequest | None, Body(examples=[{"horizon": 10, "levels": [0.8, 0.95]}])] = None,
) -> ForecastResponse:
    """Forecast up to 30 sessions of the exchange; holidays are left out."""
    request = request or ForecastRequest()
    return forecast_response(_forecast(model_id, request, request.horizon, "forecast", runtime))


def _forecast(model_id: str, request: PredictRequest, horizon: int, kind: str, runtime: Runtime) -> Forecast:
    now = runtime.clock()
    validate_not_future(now, as_of=request.as_of)
    forecast = runtime.forecasting.forecast_ticker(
        model_id, request.ticker, horizon, request.levels, now, request.as_of
    )
    # what would have been forecast on a past day was not: it is not logged
    runtime.forecast_log.record(kind, forecast.elapsed_ms, *([forecast] if request.as_of is None else []))
    return forecast


@router.post(
    "/{model_id:path}/backtest",
    summary="Accuracy on past origins",
    responses=problems(
        *FORECAST_PROBLEMS, InvalidRequest, HorizonTooLong, TrainingCapacityExceeded, TrainingUnavailable
    ),
)
def backtest_model(
    model_id: ModelIdPath,
    runtime: RuntimeDep,
    request: Annotated[BacktestRequest | None, Body(examples=[{"horizon": 5, "levels": [0.8, 0.95]}])] = None,
) -> BacktestResponse:
    """Forecast from past origins, knowing only the past, and compare the model with every baseline."""
    request = request or BacktestRequest()
    now = runtime.clock()
    validate_not_future(now, start=request.start, end=request.end)
    with nullcontext() if request.refit_every is None else runtime.training_slots.taken():
        return backtest(model_id, request, runtime.registry, runtime.model_prices, now)


@router.post(
    "/fetch-data",
    summary="Daily prices",
    responses=problems(*PRICE_PROBLEMS),
)
def fetch(
    request: Annotated[FetchDataRequest, Body(examples=[{"ticker": "^GSPC", "days": 5}])],
    runtime: RuntimeDep,
) -> FetchDataResponse:
    """Adjusted daily prices of a ticker: a range of dates, or the most recent ``days`` sessions."""
    now = runtime.clock()
    validate_not_future(now, start_date=request.start_date, end_date=request.end_date)
    return fetch_data(request, runtime.shown_prices, now)


@router.get("", summary="Models", responses=problems(StoreUnavailable))
def models(
    runtime: RuntimeDep,
    ticker: Annotated[Ticker | None, Query(description="Only models of this ticker.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Models per page.")] = 20,
    after: Annotated[
        str | None, Query(pattern=MODEL_ID_PATTERN, max_length=64, description="Last id of the previous page.")
    ] = None,
) -> ModelPage:
    """Models ordered by id, a page at a time; the bundled model is one of them."""
    return list_models(runtime.registry, ticker, limit, after, runtime.meter)


@router.get("/aliases", summary="Aliases", responses=problems(StoreUnavailable))
def aliases(runtime: RuntimeDep) -> AliasList:
    """Every alias that was ever moved; `default` points at the bundled model before its first move."""
    return AliasList(aliases=runtime.registry.aliases())


@router.put("/aliases/{alias:alias}", summary="Move an alias", responses=problems(*MODEL_PROBLEMS))
def move_alias(
    alias: Annotated[AliasName, Path(examples=["default"])],
    request: Annotated[AliasRequest, Body(examples=[{"model_id": "gspc-20261121-1a2b3c4d"}])],
    runtime: RuntimeDep,
) -> Alias:
    """Point a name such as `default` or `ticker/PETR4.SA` at a model. Every route accepts it in place of an id."""
    return runtime.registry.move_alias(alias, request.model_id, runtime.clock())


@router.get(
    "/aliases/{alias:alias}/evaluations",
    summary="Evaluations of challengers",
    responses=problems(StoreUnavailable),
)
def evaluations(
    alias: Annotated[AliasName, Path(examples=["default"])],
    runtime: RuntimeDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Evaluations per page.")] = 20,
    after: Annotated[
        str | None, Query(pattern=JOB_ID_PATTERN, description="`job_id` of the last evaluation of the previous page.")
    ] = None,
) -> EvaluationPage:
    """Every evaluation of a challenger against the model of the alias; newest first, a page at a time."""
    return evaluation_page(runtime.store, alias, limit, after, runtime.meter)


@router.get("/{model_id:path}", summary="A model's card", responses=problems(*MODEL_PROBLEMS))
def card(model_id: ModelIdPath, runtime: RuntimeDep) -> ModelCard:
    """Everything known about a model: request, data, split, accuracy, calibration, checksums."""
    return runtime.registry.card(model_id)


@router.delete(
    "/{model_id:path}",
    summary="Delete a model",
    status_code=204,
    responses=problems(ModelNotFound, ModelInUse, StoreUnavailable),
)
def delete(model_id: Annotated[ModelId, Path(examples=["gspc-20261121-1a2b3c4d"])], runtime: RuntimeDep) -> Response:
    """Delete a model and its files. This cannot be undone."""
    runtime.registry.delete(model_id)
    return Response(status_code=204)
