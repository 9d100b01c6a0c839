"""Realised accuracy, drift, and the scoring of past forecasts."""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response

from errors import ArtifactCorrupt, IdempotencyKeyReused, StoreUnavailable, TrainerUnavailable, TrainingCapacityExceeded
from routers.dependencies import (
    ExecutorDep,
    ForecastLogDep,
    JobsDep,
    MeterDep,
    NowDep,
    PriceSourceDep,
    RegistryDep,
    StoreDep,
)
from routers.problems import MODEL_PROBLEMS, PRICE_PROBLEMS, problems
from schemas.common import MODEL_ID_PATTERN, Ticker
from schemas.realised import AccuracyOverTime, DriftOverview, ScoreReport
from schemas.retrain import RetrainAnswer, RetrainRequest
from services.monitoring.drift import drift_overview, measure_drift
from services.monitoring.realised import measure_realised, realised_accuracy, tickers_scored
from services.monitoring.scoring import score_due
from services.retrain import retrain
from services.storage.registry import DEFAULT

router = APIRouter(prefix="/monitoring", tags=["monitoring"])

ORDERED: dict[int | str, dict[str, Any]] = {
    202: {"model": RetrainAnswer, "description": "A job trains a challenger; Location is its address."}
}

ModelIdQuery = Annotated[
    str | None, Query(pattern=MODEL_ID_PATTERN, max_length=64, description="Only this model, by id or alias.")
]


@router.get("/accuracy", summary="Accuracy of served forecasts", responses=problems(ArtifactCorrupt, StoreUnavailable))
def accuracy(
    store: StoreDep,
    registry: RegistryDep,
    now: NowDep,
    ticker: Annotated[Ticker | None, Query(description="Only forecasts of this ticker.")] = None,
    model_id: ModelIdQuery = None,
    days: Annotated[int, Query(ge=1, le=3650, description="Sessions of the last N days.")] = 90,
) -> AccuracyOverTime:
    """Errors, coverage and skill against persistence of served forecasts whose sessions have closed."""
    only = None if model_id is None else registry.id_of(model_id)
    return realised_accuracy(store, now, days, ticker, only)


@router.get("/drift", summary="Whether the model still fits", responses=problems(*MODEL_PROBLEMS))
def drift(
    prices: PriceSourceDep,
    registry: RegistryDep,
    store: StoreDep,
    now: NowDep,
    ticker: Annotated[
        Ticker | None, Query(description="One ticker; by default all with scored forecasts.")
    ] = None,
    model_id: Annotated[
        str, Query(pattern=MODEL_ID_PATTERN, max_length=64, description="Id of a stored model, or an alias.")
    ] = DEFAULT,
) -> DriftOverview:
    """Compare the latest ranges with their past, and outcomes with the forecasts: ok, warning or drifted."""
    tickers = tickers_scored(store) if ticker is None else [ticker]
    return drift_overview(registry.card(model_id), tickers, prices, store, now)


@router.post("/score", summary="Score past forecasts", responses=problems(ArtifactCorrupt, StoreUnavailable))
def score(
    store: StoreDep, log: ForecastLogDep, registry: RegistryDep, prices: PriceSourceDep, now: NowDep, meter: MeterDep
) -> ScoreReport:
    """Score all sessions that closed since the last run. Idempotent."""
    log.flush()
    report = score_due(store, prices, now, meter)
    measure_realised(store, now, meter)
    measure_drift(registry, prices, store, now, meter)
    return report


@router.post(
    "/retrain",
    summary="Train a challenger where the model has drifted",
    responses=ORDERED
    | problems(*PRICE_PROBLEMS, *MODEL_PROBLEMS, IdempotencyKeyReused, TrainingCapacityExceeded, TrainerUnavailable),
)
def retrain_on_drift(
    request: Annotated[RetrainRequest, Body(examples=[{"ticker": "^GSPC"}])],
    registry: RegistryDep,
    prices: PriceSourceDep,
    store: StoreDep,
    jobs: JobsDep,
    executor: ExecutorDep,
    now: NowDep,
    response: Response,
) -> RetrainAnswer:
    """Check the model of the alias: 202 with the job that trains a challenger where it has drifted, else 200."""
    answer = retrain(request, registry, prices, store, jobs, executor, now, secrets.token_hex(4))
    if answer.job is not None:
        response.status_code = 202
        response.headers["Location"] = f"/jobs/{answer.job.id}"
    return answer
