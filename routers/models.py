"""Forecast with, backtest, list and delete models; legacy contract v1's routes among them."""

import asyncio
import secrets
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor

from bootstrap import Runtime
from errors import (
    BacktestCapacityExceeded,
    HorizonTooLong,
    IdempotencyKeyReused,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobLost,
    ModelInUse,
    ModelNotFound,
    StoreUnavailable,
    TrainerUnavailable,
    TrainingCapacityExceeded,
    TrainingUnavailable,
    WebhookRefused,
)
from routers.answers import forecast_response, predict_response
from routers.dependencies import RuntimeDep, validate_not_future
from routers.guard import READS, GuardedRoute, charged, in_memory_first, validate_right
from routers.jobs import (
    ACCEPTED,
    IdempotencyKey,
    Prefer,
    Preference,
    RespondAsync,
    accepted,
    ended,
    read_preference,
    seconds_left,
)
from routers.problems import FORECAST_PROBLEMS, MODEL_PROBLEMS, PRICE_PROBLEMS, problems
from routers.waiting import ClientGone, while_connected
from schemas.alias import Alias, AliasList, AliasName, AliasRequest
from schemas.backtest import BacktestResponse, BacktestSubmission
from schemas.card import ModelCard
from schemas.challenge import EvaluationPage
from schemas.common import MODEL_ID_PATTERN, MODEL_NAME_PATTERN, OF_TICKER, ModelId, Ticker
from schemas.fetch_data import FetchDataRequest, FetchDataResponse
from schemas.job import JOB_ID_PATTERN, Job
from schemas.models import ModelPage
from schemas.predict import ForecastRequest, ForecastResponse, PredictRequest, PredictResponse
from services.backtest import prepare_backtest
from services.backtest_jobs import AT_ONCE_S, leave_job, submit_backtest
from services.catalogue import list_models
from services.forecasting.forecast import Forecast
from services.jobs.job import job_url, naming_job
from services.market_data import fetch_data
from services.storage.evaluations import evaluation_page

router = APIRouter(route_class=GuardedRoute, prefix="/models", tags=["models"])


class _AliasConvertor(StringConvertor):
    """One segment, or two where the first is that of the aliases of tickers: a further segment is another address."""

    regex = f"(?:{OF_TICKER})?[^/]+"


class _ModelConvertor(StringConvertor):
    """What is no other address below ``/models``: there, a method that the address lacks is 405 rather than a model."""

    _OTHERS = (
        f"train|fetch-data|aliases|aliases/{_AliasConvertor.regex}(?:/evaluations)?|.+/(?:predict|forecast|backtest)"
    )
    regex = f"(?!(?:{_OTHERS})$).*"


register_url_convertor("alias", _AliasConvertor())
register_url_convertor("model", _ModelConvertor())

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
    openapi_extra=READS,
    responses=problems(*FORECAST_PROBLEMS, InvalidRequest),
)
@in_memory_first
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
    openapi_extra=READS,
    responses=problems(*FORECAST_PROBLEMS, InvalidRequest, HorizonTooLong),
)
@in_memory_first
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
    openapi_extra=READS,
    response_model=BacktestResponse,
    responses=ACCEPTED
    | problems(
        *FORECAST_PROBLEMS,
        InvalidRequest,
        WebhookRefused,
        HorizonTooLong,
        JobCancelled,
        JobFailed,
        JobLost,
        IdempotencyKeyReused,
        BacktestCapacityExceeded,
        TrainingCapacityExceeded,
        TrainingUnavailable,
        TrainerUnavailable,
    ),
)
async def backtest_model(
    model_id: ModelIdPath,
    runtime: RuntimeDep,
    http: Request,
    submission: Annotated[BacktestSubmission | None, Body(examples=[{"horizon": 5, "levels": [0.8, 0.95]}])] = None,
    prefer: Prefer = "",
    respond_async: RespondAsync = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Forecast from past origins, knowing only the past, and compare the model with every baseline.

    About a second of work is answered at once. A longer backtest is a job: the answer comes when it has ended, or is
    202 with the job if that takes longer than the server or the caller waits. The same backtest is one job. It is
    cancelled when its last caller closes the connection, unless one was given its id. With a ``webhook``, every
    backtest is a job, and goes on without callers.
    """
    submission = submission or BacktestSubmission()
    request, webhook = submission.backtest, submission.webhook
    now = runtime.clock()
    validate_not_future(now, start=request.start, end=request.end)
    if request.refit_every is not None or webhook is not None:
        validate_right("train")
    await run_in_threadpool(runtime.announcements.validate, webhook)
    prepared = await run_in_threadpool(
        charged(prepare_backtest), model_id, request, runtime.registry, runtime.model_prices, now
    )
    if prepared.seconds <= AT_ONCE_S and webhook is None:
        short = runtime.short_backtests
        with suppress(BacktestCapacityExceeded), short.result_of(prepared.digest, charged(prepared.answer)) as answer:
            return _json(await while_connected(http, asyncio.shield(asyncio.wrap_future(answer))))
    token = secrets.token_hex(4)
    job = await run_in_threadpool(
        submit_backtest,
        prepared,
        runtime.jobs,
        runtime.backtest_executor,
        runtime.waiters,
        now,
        token,
        idempotency_key,
        webhook,
    )
    if webhook is not None:
        runtime.waiters.publish(job.id)
    preferred = read_preference(f"{prefer}, respond-async" if respond_async else prefer)
    max_wait_s = preferred.max_wait_s(min(runtime.settings.train_wait_s, seconds_left(http)))
    try:
        return await while_connected(http, _backtest_answer(job, runtime, preferred, max_wait_s))
    except ClientGone:
        await run_in_threadpool(leave_job, job.id, runtime.jobs, runtime.waiters, runtime.clock())
        raise


async def _backtest_answer(job: Job, runtime: Runtime, preferred: Preference, max_wait_s: float) -> Response:
    with naming_job(job.id):
        job = await ended(job, runtime.jobs, runtime.clock, max_wait_s)
        if job.ended_at is None:
            runtime.waiters.publish(job.id)
            return accepted(job, applied="respond-async" if preferred.respond_async else None)
        runtime.waiters.leave(job.id)
        if not isinstance(job.result, BacktestResponse):
            raise job.failure()
        return _json(await run_in_threadpool(job.result.model_dump_json), Location=job_url(job.id))


def _json(body: str, **headers: str) -> Response:
    return Response(body, media_type="application/json", headers=headers)


@router.post(
    "/fetch-data",
    summary="Daily prices",
    openapi_extra=READS,
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


@router.get("/{model_id:model}", summary="A model's card", responses=problems(*MODEL_PROBLEMS))
def card(model_id: ModelIdPath, runtime: RuntimeDep) -> ModelCard:
    """Everything known about a model: request, data, split, accuracy, calibration, checksums."""
    return runtime.registry.card(model_id)


@router.delete(
    "/{model_id:model}",
    summary="Delete a model",
    status_code=204,
    responses=problems(ModelNotFound, ModelInUse, StoreUnavailable),
)
def delete(model_id: Annotated[ModelId, Path(examples=["gspc-20261121-1a2b3c4d"])], runtime: RuntimeDep) -> Response:
    """Delete a model and its files. This cannot be undone."""
    runtime.registry.delete(model_id)
    return Response(status_code=204)
