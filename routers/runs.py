"""Runs over many tickers: start one, read its state and its results, cancel it, resume it."""

import secrets
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Path, Query, Response

from errors import (
    ArtifactCorrupt,
    IdempotencyKeyReused,
    InvalidRequest,
    ParquetUnavailable,
    RunCapacityExceeded,
    RunFinished,
    RunNotFound,
    RunNotResumable,
    StoreUnavailable,
    TrainerUnavailable,
    TrainingUnavailable,
    UniverseNotFound,
    WebhookRefused,
)
from routers.dependencies import RuntimeDep, validate_not_future
from routers.guard import GuardedRoute
from routers.jobs import POLL_AFTER_S, IdempotencyKey
from routers.problems import MODEL_PROBLEMS, problems
from schemas.common import Ticker
from schemas.run import RUN_ID_PATTERN, Run, RunPage, RunRequest, RunTickerPage, TableFormat, TickerState
from services.runs.results import table
from services.runs.runs import run_url
from services.runs.submission import resume_run, start_run

router = APIRouter(route_class=GuardedRoute, prefix="/runs", tags=["runs"])

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Run,
        "description": "The run is under way; Location is its address.",
        "headers": {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}},
    }
}
CAPACITY_PROBLEMS = (UniverseNotFound, TrainingUnavailable, RunCapacityExceeded, TrainerUnavailable)

RunIdPath = Annotated[
    str, Path(pattern=RUN_ID_PATTERN, description="Id of a run.", examples=["20261121t093000-1a2b3c4d"])
]


@router.post(
    "",
    summary="Start a run",
    status_code=202,
    response_model=Run,
    responses=ACCEPTED
    | problems(*MODEL_PROBLEMS, *CAPACITY_PROBLEMS, InvalidRequest, WebhookRefused, IdempotencyKeyReused),
)
def start(
    request: Annotated[RunRequest, Body(examples=[{"action": "forecast", "tickers": ["^GSPC", "^BVSP"]}])],
    runtime: RuntimeDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Run:
    """Train, fine-tune, backtest, forecast or score many tickers. A ticker that fails does not stop the others."""
    now = runtime.clock()
    validate_not_future(now, start_date=request.options.start_date, end_date=request.options.end_date)
    runtime.announcements.validate(request.webhook)
    run = start_run(
        request,
        runtime.runs,
        runtime.run_executor,
        runtime.registry,
        runtime.run_universes,
        now,
        secrets.token_hex(4),
        engine=runtime.run_engine,
        n_workers=runtime.settings.run_workers,
        jobs=runtime.jobs,
        key=idempotency_key,
    )
    return _announced(run, response)


@router.get("", summary="Runs", responses=problems(ArtifactCorrupt, StoreUnavailable))
def page(
    runtime: RuntimeDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Runs per page.")] = 20,
    after: Annotated[str | None, Query(pattern=RUN_ID_PATTERN, description="Last id of the previous page.")] = None,
) -> RunPage:
    """Runs, newest first, a page at a time, without the tickers that failed."""
    return runtime.runs.page(limit, after, runtime.clock())


@router.get("/{run_id}", summary="A run", responses=problems(RunNotFound, ArtifactCorrupt, StoreUnavailable))
def status(run_id: RunIdPath, runtime: RuntimeDep, response: Response) -> Run:
    """The state, how many tickers are done, and which failed."""
    return _announced(runtime.runs.status(run_id, runtime.clock()), response)


@router.get(
    "/{run_id}/tickers",
    summary="The tickers of a run",
    responses=problems(RunNotFound, ArtifactCorrupt, StoreUnavailable),
)
def tickers(
    run_id: RunIdPath,
    runtime: RuntimeDep,
    state: Annotated[TickerState | None, Query(description="Only tickers in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=500, description="Tickers per page.")] = 100,
    after: Annotated[Ticker | None, Query(description="Last ticker of the previous page.")] = None,
) -> RunTickerPage:
    """The state of each ticker, its model and its error, in the order of the request."""
    return runtime.runs.tickers(run_id, state, limit, after, runtime.clock())


@router.get(
    "/{run_id}/results",
    summary="The results of a run",
    response_class=Response,
    responses={
        200: {"content": {CSV: {"schema": {"type": "string"}}, PARQUET: {"schema": {"type": "string"}}}},
        **problems(RunNotFound, ArtifactCorrupt, StoreUnavailable, ParquetUnavailable),
    },
)
def results(
    run_id: RunIdPath,
    runtime: RuntimeDep,
    accept: Annotated[str, Header(max_length=1000, description=f"`{CSV}` or `{PARQUET}`.")] = "",
    format: Annotated[  # noqa: A002 - the parameter's name
        TableFormat | None, Query(description="By default as Accept says, else CSV.")
    ] = None,
) -> Response:
    """A table with a row for each ticker and step, of the tickers that are done."""
    wanted: Literal["csv", "parquet"] = format or ("parquet" if PARQUET in accept.lower() else "csv")
    content = table(runtime.runs, run_id, wanted, runtime.clock())
    name = f'attachment; filename="{run_id}.{wanted}"'
    return Response(content, media_type=PARQUET if wanted == "parquet" else CSV, headers={"Content-Disposition": name})


@router.post(
    "/{run_id}/cancel",
    summary="Cancel a run",
    response_model=Run,
    responses=ACCEPTED | problems(RunNotFound, RunFinished, ArtifactCorrupt, StoreUnavailable),
)
def cancel(run_id: RunIdPath, runtime: RuntimeDep, response: Response) -> Run:
    """Cancel a run: 200 if it is cancelled, 202 if workers still have to stop, which takes seconds."""
    run = runtime.runs.cancel(run_id, runtime.clock())
    response.status_code = 202 if run.ended_at is None else 200
    return _announced(run, response)


@router.post(
    "/{run_id}/resume",
    summary="Resume a run",
    status_code=202,
    response_model=Run,
    responses=ACCEPTED | problems(RunNotFound, RunNotResumable, *CAPACITY_PROBLEMS, ArtifactCorrupt, StoreUnavailable),
)
def resume(run_id: RunIdPath, runtime: RuntimeDep, response: Response) -> Run:
    """Try the tickers again that failed, were cancelled or lost. Those that succeeded are not done again."""
    run = resume_run(
        run_id,
        runtime.runs,
        runtime.run_executor,
        runtime.clock(),
        engine=runtime.run_engine,
        n_workers=runtime.settings.run_workers,
    )
    return _announced(run, response)


def _announced(run: Run, response: Response) -> Run:
    response.headers["Location"] = run_url(run.id)
    if run.ended_at is None:
        response.headers["Retry-After"] = str(POLL_AFTER_S)
    return run
