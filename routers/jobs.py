"""Trainings and long backtests as jobs: submit a training, wait for a job or poll it, cancel it, retry it."""

import asyncio
import logging
import re
import secrets
import time
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from clock import Clock
from errors import (
    ArtifactCorrupt,
    BacktestCapacityExceeded,
    IdempotencyKeyReused,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobLost,
    JobNotFound,
    JobNotRetryable,
    StoreUnavailable,
    TrainerUnavailable,
    TrainingCapacityExceeded,
    TrainingUnavailable,
    UniverseNotFound,
    WebhookRefused,
    ZeroVariance,
)
from routers.dependencies import RuntimeDep, validate_not_future
from routers.guard import GuardedRoute
from routers.problems import MODEL_PROBLEMS, PRICE_PROBLEMS, problems
from routers.turns import rest
from schemas.job import JOB_ID_PATTERN, Job, JobPage
from schemas.train import TrainResponse, TrainResult, TrainSubmission
from services.backtest_jobs import retry_backtest
from services.jobs.job import Jobs, job_url, naming_job
from services.training.submission import retry_training, submit_training
from services.training.train import trained

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])

POLL_AFTER_S = 2  # Retry-After of a job that has not ended
FIRST_PAUSE_S, LONGEST_PAUSE_S, PAUSE_SHARE = 0.1, 1.0, 0.1  # at most a tenth longer than the job takes
LAMBDA_RESERVE_S = 3.0  # of the function's time, to answer 202 before it ends

log = logging.getLogger(__name__)

ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": Job,
        "description": "The job is running or waiting; Location is its address.",
        "headers": {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}},
    }
}

JobIdPath = Annotated[
    str, Path(pattern=JOB_ID_PATTERN, description="Id of a job.", examples=["20261121t093000-1a2b3c4d"])
]

Prefer = Annotated[str, Header(max_length=200, description="`respond-async`, `wait=SECONDS`, or both.")]
RespondAsync = Annotated[bool, Query(alias="async", description="The same as `Prefer: respond-async`.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Requests with the same key return the same job.",
    ),
]


@router.post(
    "/models/train",
    tags=["models"],
    summary="Train and store a model",
    response_model=TrainResponse,
    responses=ACCEPTED
    | problems(
        *PRICE_PROBLEMS,
        *MODEL_PROBLEMS,
        InvalidRequest,
        WebhookRefused,
        UniverseNotFound,
        ZeroVariance,
        JobCancelled,
        JobFailed,
        JobLost,
        IdempotencyKeyReused,
        TrainingCapacityExceeded,
        TrainingUnavailable,
        TrainerUnavailable,
    ),
)
async def train(
    http: Request,
    request: Annotated[
        TrainSubmission, Body(examples=[{"ticker": "^GSPC", "start_date": "2010-01-01", "end_date": "2018-12-31"}])
    ],
    runtime: RuntimeDep,
    response: Response,
    prefer: Prefer = "",
    respond_async: RespondAsync = False,
    idempotency_key: IdempotencyKey = None,
) -> Response | TrainResponse:
    """Fetch prices, fit, calibrate and test a model, store it, and report its accuracy next to that of no change.

    The training is a job. By default the answer comes when the job has ended. It is 202 with the job if the training
    takes longer than the server or the caller waits.
    """
    now = runtime.clock()
    validate_not_future(now, start_date=request.start_date, end_date=request.end_date)
    token = secrets.token_hex(4)
    await run_in_threadpool(runtime.announcements.validate, request.webhook)
    job = await run_in_threadpool(
        submit_training,
        request.training,
        runtime.jobs,
        runtime.executor,
        now,
        token,
        idempotency_key,
        runtime.universes,
        request.webhook,
    )
    rest(http.scope)
    preferred = read_preference(f"{prefer}, respond-async" if respond_async else prefer)
    max_wait_s = preferred.max_wait_s(min(runtime.settings.train_wait_s, seconds_left(http)))
    with naming_job(job.id):
        job = await ended(job, runtime.jobs, runtime.clock, max_wait_s)
        if job.ended_at is None:
            return accepted(job, applied="respond-async" if preferred.respond_async else None)
        if not isinstance(job.result, TrainResult):
            raise job.failure()
    response.headers["Location"] = job_url(job.id)
    return trained(job.result)


@router.get("/jobs", summary="Jobs", responses=problems(ArtifactCorrupt, StoreUnavailable))
def page(
    runtime: RuntimeDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Jobs per page.")] = 20,
    after: Annotated[str | None, Query(pattern=JOB_ID_PATTERN, description="Last id of the previous page.")] = None,
) -> JobPage:
    """Jobs, newest first, a page at a time."""
    return runtime.jobs.page(limit, after, runtime.clock())


@router.get("/jobs/{job_id}", summary="A job", responses=problems(JobNotFound, ArtifactCorrupt, StoreUnavailable))
def status(job_id: JobIdPath, runtime: RuntimeDep, response: Response) -> Job:
    """State, progress with the losses so far, and the result or the error."""
    job = runtime.jobs.status(job_id, runtime.clock())
    if job.ended_at is None:
        response.headers["Retry-After"] = str(POLL_AFTER_S)
    return job


@router.delete(
    "/jobs/{job_id}",
    summary="Cancel a job",
    responses=ACCEPTED | problems(JobNotFound, JobFinished, ArtifactCorrupt, StoreUnavailable),
)
def cancel(job_id: JobIdPath, runtime: RuntimeDep, response: Response) -> Job:
    """Cancel a job: 200 if it is cancelled, 202 if its worker still has to stop, which takes seconds."""
    job = runtime.jobs.cancel(job_id, runtime.clock())
    response.status_code = 202 if job.ended_at is None else 200
    return job


@router.post(
    "/jobs/{job_id}/retry",
    summary="Retry a job",
    status_code=202,
    responses=ACCEPTED
    | problems(
        JobNotFound,
        UniverseNotFound,
        JobNotRetryable,
        TrainingCapacityExceeded,
        BacktestCapacityExceeded,
        TrainingUnavailable,
        TrainerUnavailable,
        ArtifactCorrupt,
        StoreUnavailable,
    ),
)
def retry(job_id: JobIdPath, runtime: RuntimeDep) -> Response:
    """Submit a new job with the request of a failed, cancelled or lost one."""
    now, token = runtime.clock(), secrets.token_hex(4)
    job = runtime.jobs.status(job_id, now)
    if job.kind == "backtest":
        return accepted(retry_backtest(job, runtime.jobs, runtime.backtest_executor, now, token))
    return accepted(retry_training(job_id, runtime.jobs, runtime.executor, now, token, runtime.universes))


@dataclass(frozen=True)
class Preference:
    """How long to wait, by a ``Prefer`` header (RFC 7240)."""

    respond_async: bool
    wait_s: float | None

    def max_wait_s(self, longest_s: float) -> float:
        if self.wait_s is not None:
            return min(self.wait_s, longest_s)
        return 0.0 if self.respond_async else longest_s


def read_preference(header: str) -> Preference:
    """Parse the header; unknown preferences are ignored, as the RFC demands.

    >>> read_preference('respond-async, wait=10; foo="bar", handling=lenient').max_wait_s(60)
    10.0
    """
    wanted = {part.split(";")[0].strip().lower() for part in header.split(",")}
    waits = [float(found[1]) for part in wanted if (found := re.fullmatch(r'wait\s*=\s*"?([0-9]{1,6})"?', part))]
    return Preference("respond-async" in wanted, min(waits, default=None))


async def ended(job: Job, jobs: Jobs, clock: Clock, max_wait_s: float) -> Job:
    """The job when it has ended, or when the wait is over; goes on while the store fails."""
    began = time.monotonic()
    while job.ended_at is None and (left_s := began + max_wait_s - time.monotonic()) > 0:
        pause_s = max(FIRST_PAUSE_S, PAUSE_SHARE * (time.monotonic() - began))
        await asyncio.sleep(min(pause_s, LONGEST_PAUSE_S, left_s))
        try:
            job = await run_in_threadpool(jobs.status, job.id, clock())
        except StoreUnavailable as error:
            log.warning("job %s could not be read, and is read again: %s", job.id, error.message)
    return job


def seconds_left(http: Request) -> float:
    """How long this Lambda invocation may wait; no limit elsewhere."""
    context = http.scope.get("aws.context")
    return float("inf") if context is None else context.get_remaining_time_in_millis() / 1000 - LAMBDA_RESERVE_S


def accepted(job: Job, applied: str | None = None) -> Response:
    headers = {"Location": job_url(job.id), "Retry-After": str(POLL_AFTER_S)}
    if applied is not None:
        headers["Preference-Applied"] = applied
    return JSONResponse(job.model_dump(mode="json"), 202, headers=headers)
