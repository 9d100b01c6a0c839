"""Did it come true? Realised accuracy, drift, and the scoring of what has closed."""

from typing import Annotated

from fastapi import APIRouter, Query

from errors import ArtifactCorrupt, StoreUnavailable
from routers.dependencies import ForecastLogDep, MeterDep, NowDep, PriceSourceDep, RegistryDep, StoreDep
from routers.problems import MODEL_PROBLEMS, problems
from schemas.common import MODEL_ID_PATTERN, Ticker
from schemas.realised import AccuracyOverTime, DriftOverview, ScoreReport
from services.monitoring.drift import drift_overview, measure_drift
from services.monitoring.realised import measure_realised, realised_accuracy, tickers_scored
from services.monitoring.scoring import score_due

router = APIRouter(prefix="/monitoring", tags=["monitoring"])

ModelIdQuery = Annotated[str | None, Query(pattern=MODEL_ID_PATTERN, max_length=64, description="Only this model.")]


@router.get("/accuracy", summary="What forecasts were worth", responses=problems(ArtifactCorrupt, StoreUnavailable))
def accuracy(
    store: StoreDep,
    now: NowDep,
    ticker: Annotated[Ticker | None, Query(description="Only forecasts of this ticker.")] = None,
    model_id: ModelIdQuery = None,
    days: Annotated[int, Query(ge=1, le=3650, description="Sessions of the last so many days.")] = 90,
) -> AccuracyOverTime:
    """Errors, coverage and skill of served forecasts whose sessions have closed, with persistence beside them."""
    return realised_accuracy(store, now, days, ticker, model_id)


@router.get("/drift", summary="Does the model still fit?", responses=problems(*MODEL_PROBLEMS))
def drift(
    prices: PriceSourceDep,
    registry: RegistryDep,
    store: StoreDep,
    now: NowDep,
    meter: MeterDep,
    ticker: Annotated[Ticker | None, Query(description="One ticker; without, every one that was scored.")] = None,
    model_id: Annotated[
        str, Query(pattern=MODEL_ID_PATTERN, max_length=64, description="Id of a stored model, or an alias.")
    ] = "default",
) -> DriftOverview:
    """Compare the latest ranges with their past, and outcomes with what was promised: fine, watch or retrain."""
    tickers = tickers_scored(store) if ticker is None else [ticker]
    overview = drift_overview(registry.card(model_id), tickers, prices, store, now)
    if ticker is None:
        measure_drift(overview, meter)
    return overview


@router.post("/score", summary="Score what has closed", responses=problems(ArtifactCorrupt, StoreUnavailable))
def score(store: StoreDep, log: ForecastLogDep, prices: PriceSourceDep, now: NowDep, meter: MeterDep) -> ScoreReport:
    """Compare every forecast whose session has closed with the close that came; done again, it changes nothing."""
    log.flush()
    report = score_due(store, prices, now, meter)
    measure_realised(store, now, meter)
    return report
