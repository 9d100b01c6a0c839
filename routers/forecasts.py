"""The forecasts of the last nightly run, read without computing anything, and the run itself in slices."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from errors import (
    ArtifactCorrupt,
    CalibrationTooSmall,
    ForecastNotPublished,
    HorizonTooLong,
    StoreUnavailable,
    TrainingUnavailable,
    UniverseNotFound,
)
from routers.dependencies import RuntimeDep
from routers.etags import known_etags
from routers.guard import GuardedRoute
from routers.problems import MODEL_PROBLEMS, problems
from schemas.common import Ticker
from schemas.latest import FetchReport, LatestForecasts, LatestQuery, LatestTicker, PublishReport
from services.latest_forecasts import Answer

router = APIRouter(route_class=GuardedRoute, prefix="/forecasts", tags=["forecasts"])

SLICE_S = 45.0  # of work in one request: below the timeouts of proxies
# callers differ by their key, and a shared cache does not know keys
CACHED = {"Cache-Control": "private, max-age=60"}

NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The caller has this answer: If-None-Match names its ETag."}
}


@router.get(
    "/latest",
    summary="The forecasts of the last nightly run",
    response_model=LatestForecasts,
    responses={**NOT_MODIFIED, **problems(ForecastNotPublished, ArtifactCorrupt, StoreUnavailable)},
)
def latest(query: Annotated[LatestQuery, Query()], runtime: RuntimeDep, http: Request) -> Response:
    """The next session of every ticker of the nightly run, each with intervals and no-change forecast."""
    return _answer(runtime.latest.page(query, runtime.clock()), http)


@router.get(
    "/latest/{ticker:path}",
    summary="All steps of a ticker of the last nightly run",
    response_model=LatestTicker,
    responses={**NOT_MODIFIED, **problems(ForecastNotPublished, ArtifactCorrupt, StoreUnavailable)},
)
def latest_of(ticker: Annotated[Ticker, Path(examples=["^GSPC"])], runtime: RuntimeDep, http: Request) -> Response:
    """Up to 20 sessions of a ticker of the nightly run, each with intervals and no-change forecast."""
    return _answer(runtime.latest.ticker(ticker, runtime.clock()), http)


@router.post(
    "/prices",
    summary="Fetch the prices of the nightly run",
    responses=problems(UniverseNotFound, TrainingUnavailable),
)
def fetch(
    runtime: RuntimeDep,
    after: Annotated[str | None, Query(max_length=32, description="`next_after` of the call before.")] = None,
) -> FetchReport:
    """Fetch the newest prices of the tickers of `NIGHTLY_TICKERS`, one after the other, for about 45 seconds."""
    return runtime.nightly.fetch(after, runtime.clock(), SLICE_S)


@router.post(
    "/latest",
    summary="Forecast the tickers of the nightly run and publish the forecasts",
    responses=problems(*MODEL_PROBLEMS, UniverseNotFound, TrainingUnavailable, HorizonTooLong, CalibrationTooSmall),
)
def publish(runtime: RuntimeDep) -> PublishReport:
    """Forecast the tickers of `NIGHTLY_TICKERS` that have newer prices, for about 45 seconds; idempotent.

    Once none is left, the forecasts are published. Until then, answers have those of the run before.
    """
    return runtime.nightly.publish(runtime.clock(), SLICE_S)


def _answer(answer: Answer, http: Request) -> Response:
    """The bytes as they are kept, or 304 if the caller has them; the middleware leaves compressed ones alone."""
    headers = {**CACHED, "ETag": answer.etag}
    if known_etags(http) & {answer.etag.removeprefix("W/"), "*"}:
        return Response(status_code=304, headers=headers)
    if answer.compressed is not None and "gzip" in http.headers.get("Accept-Encoding", ""):
        packed = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}  # the middleware adds both to others
        return Response(answer.compressed, media_type="application/json", headers=headers | packed)
    return Response(answer.body, media_type="application/json", headers=headers)
