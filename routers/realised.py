"""Realised accuracy, drift, and the scoring of past forecasts."""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from errors import ArtifactCorrupt, IdempotencyKeyReused, StoreUnavailable, TrainerUnavailable, TrainingCapacityExceeded
from routers.dependencies import RuntimeDep
from routers.guard import GuardedRoute
from routers.problems import MODEL_PROBLEMS, PRICE_PROBLEMS, problems
from schemas.common import MAX_HORIZON, MODEL_NAME_PATTERN, Ticker
from schemas.outcomes import Outcomes
from schemas.realised import AccuracyOverTime, DriftOverview, ScoreReport
from schemas.retention import ForgetReport
from schemas.retrain import RetrainAnswer, RetrainRequest
from services.jobs.job import job_url
from services.monitoring.drift import drift_overview
from services.monitoring.outcomes import outcomes_of
from services.monitoring.realised import realised_accuracy, tickers_scored
from services.monitoring.scoring_run import run_scoring
from services.retention import forget, forget_quietly
from services.retrain import retrain

router = APIRouter(route_class=GuardedRoute, prefix="/monitoring", tags=["monitoring"])

ORDERED: dict[int | str, dict[str, Any]] = {
    202: {"model": RetrainAnswer, "description": "A job trains a challenger; Location is its address."}
}

ModelIdQuery = Annotated[
    str | None, Query(pattern=MODEL_NAME_PATTERN, max_length=64, description="Only this model, by id or alias.")
]


@router.get("/accuracy", summary="Accuracy of served forecasts", responses=problems(ArtifactCorrupt, StoreUnavailable))
def accuracy(
    runtime: RuntimeDep,
    ticker: Annotated[Ticker | None, Query(description="Only forecasts of this ticker.")] = None,
    model_id: ModelIdQuery = None,
    days: Annotated[int, Query(ge=1, le=3650, description="Sessions of the last N days.")] = 90,
) -> AccuracyOverTime:
    """Errors, coverage and skill of served forecasts whose sessions have closed, compared with no change."""
    only = None if model_id is None else runtime.registry.id_of(model_id)
    return realised_accuracy(runtime.store, runtime.clock(), days, ticker, only, runtime.meter)


@router.get(
    "/outcomes",
    summary="Past forecasts with the closes that came",
    responses=problems(ArtifactCorrupt, StoreUnavailable),
)
def outcomes(
    runtime: RuntimeDep,
    ticker: Annotated[Ticker, Query(description="The ticker.", examples=["^GSPC"])],
    model_id: ModelIdQuery = None,
    step: Annotated[int, Query(ge=1, le=MAX_HORIZON, description="Sessions ahead.")] = 1,
    limit: Annotated[int, Query(ge=1, le=250, description="The newest sessions, at most so many.")] = 60,
) -> Outcomes:
    """Every scored forecast of a ticker so many sessions ahead, the newest 60 by default, oldest first."""
    only = None if model_id is None else runtime.registry.id_of(model_id)
    return outcomes_of(runtime.store, ticker, only, step, limit, runtime.meter)


@router.get("/drift", summary="Whether the model still fits", responses=problems(*MODEL_PROBLEMS))
def drift(
    runtime: RuntimeDep,
    ticker: Annotated[
        Ticker | None, Query(description="One ticker; by default every ticker with scored forecasts.")
    ] = None,
    model_id: Annotated[
        str | None,
        Query(
            pattern=MODEL_NAME_PATTERN,
            max_length=64,
            description="Id of a stored model, or an alias; by default the model that answers for each ticker.",
        ),
    ] = None,
) -> DriftOverview:
    """Compare the latest daily ranges with past ones, and closes with forecasts: ok, warning or drifted."""
    tickers = tickers_scored(runtime.store) if ticker is None else [ticker]
    return drift_overview(runtime.registry, model_id, tickers, runtime.prices, runtime.store, runtime.clock())


@router.post("/score", summary="Score past forecasts", responses=problems(ArtifactCorrupt, StoreUnavailable))
def score(runtime: RuntimeDep) -> ScoreReport:
    """Score all sessions that closed since the last run, then delete what is too old. Idempotent."""
    now = runtime.clock()
    runtime.writer.flush()
    report = run_scoring(runtime.store, runtime.prices, runtime.registry, now, runtime.meter)
    forget_quietly(runtime.store, runtime.caches, now, runtime.settings.retention_days)
    return report


@router.post("/forget", summary="Delete what is older than the retention", responses=problems(StoreUnavailable))
def forget_old(runtime: RuntimeDep) -> ForgetReport:
    """Delete forecasts, scores, jobs and caches older than `RETENTION_DAYS`, as scoring does; never a model."""
    return forget(runtime.store, runtime.caches, runtime.clock(), runtime.settings.retention_days)


@router.post(
    "/retrain",
    summary="Train a challenger if the model has drifted",
    responses=ORDERED
    | problems(*PRICE_PROBLEMS, *MODEL_PROBLEMS, IdempotencyKeyReused, TrainingCapacityExceeded, TrainerUnavailable),
)
def retrain_on_drift(
    request: Annotated[RetrainRequest, Body(examples=[{"ticker": "^GSPC"}])],
    runtime: RuntimeDep,
    response: Response,
) -> RetrainAnswer:
    """Check the ticker's model. If it has drifted, 202 with the job that trains a challenger; else 200."""
    answer = retrain(
        request,
        runtime.registry,
        runtime.prices,
        runtime.store,
        runtime.jobs,
        runtime.executor,
        runtime.clock(),
        secrets.token_hex(4),
    )
    if answer.job is not None:
        response.status_code = 202
        response.headers["Location"] = job_url(answer.job.id)
    return answer
