"""From a training request to a job that a worker takes."""

import logging
from datetime import datetime
from hashlib import sha256

from errors import (
    AppError,
    InvalidRequest,
    JobNotFound,
    JobNotRetryable,
    StoreUnavailable,
    TrainingCapacityExceeded,
)
from models.specs import MODEL_SPECS
from schemas.job import Job, JobSpec, KeyUse
from schemas.train import TrainRequest
from services.catalogue import new_model_id
from services.jobs.executor import Executor
from services.jobs.job import START_WITHIN, Jobs
from services.training.universe import NO_UNIVERSES, Universes

log = logging.getLogger(__name__)

RETRYABLE = ("failed", "cancelled", "lost")


def submit_training(
    request: TrainRequest,
    jobs: Jobs,
    executor: Executor,
    now: datetime,
    token: str,
    key: str | None = None,
    universes: Universes = NO_UNIVERSES,
) -> Job:
    """A new job that trains a model; or the job that was made before with the same Idempotency-Key.

    Args:
        request: what to train.
        jobs: stores the job.
        executor: runs it.
        now: the time.
        token: eight hex digits that make the ids unique.
        key: the caller's Idempotency-Key.
        universes: those of the machine that trains.

    Raises:
        IdempotencyKeyReused: the key was used with another request.
        UniverseNotFound, TrainingUnavailable: there is no such universe where the job would run.
        InvalidRequest: a kind of model for one ticker cannot be trained on a universe.
        TrainingCapacityExceeded, TrainerUnavailable: the job cannot run now, and is not stored.
    """
    _validate_universe(request, universes)
    spec = _spec(request, now, token)
    if key is None:
        return _submit(spec, jobs, executor, now)
    use = KeyUse(
        job_id=spec.id,
        created_at=now,
        model_id=spec.model_id,
        request_sha256=sha256(request.model_dump_json().encode()).hexdigest(),
    )
    first = jobs.use_key(sha256(key.encode()).hexdigest(), use)
    try:
        return jobs.status(first.job_id, now)
    except JobNotFound:  # this request's job, or one whose submission failed after the key was stored
        spec = spec.model_copy(update={"id": first.job_id, "model_id": first.model_id})
        return _submit(spec, jobs, executor, now)


def retry_training(
    job_id: str, jobs: Jobs, executor: Executor, now: datetime, token: str, universes: Universes = NO_UNIVERSES
) -> Job:
    """A new job with the request of one that failed, was cancelled or lost.

    Raises:
        JobNotFound: there is no such job.
        JobNotRetryable: it has not ended, or has succeeded.
        UniverseNotFound, TrainingUnavailable: its universe no longer exists.
        TrainingCapacityExceeded, TrainerUnavailable: the new job cannot run now, and is not stored.
    """
    job = jobs.status(job_id, now)
    if job.state not in RETRYABLE:
        raise JobNotRetryable(
            f"job {job_id!r} is {job.state}; only a {' or '.join(RETRYABLE)} job can be retried",
            job_id=job_id,
            state=job.state,
        )
    _validate_universe(job.request, universes)
    spec = _spec(job.request, now, token).model_copy(update={"retry_of": job_id})
    return _submit(spec, jobs, executor, now)


def resume_waiting(jobs: Jobs, executor: Executor) -> None:
    """Start workers on jobs that were left waiting by an earlier process, as many as there is room for."""
    try:
        for job_id in jobs.waiting():
            with executor.slot() as submit:
                submit(job_id)
    except (StoreUnavailable, TrainingCapacityExceeded) as error:
        log.warning("waiting jobs were not resumed: %s", error.message)


def _validate_universe(request: TrainRequest, universes: Universes) -> None:
    if request.universe is None:
        return
    if not MODEL_SPECS[request.model].pools:
        raise InvalidRequest(f"{request.model} is fitted to one ticker: train a universe with a return_lstm")
    universes.get(request.universe)


def _spec(request: TrainRequest, now: datetime, token: str) -> JobSpec:
    return JobSpec(
        id=f"{now:%Y%m%dt%H%M%S}-{token}",
        created_at=now,
        claim_deadline=now + START_WITHIN,
        model_id=new_model_id(request.all_tickers, now, token, request.universe),
        request=request,
    )


def _submit(spec: JobSpec, jobs: Jobs, executor: Executor, now: datetime) -> Job:
    with executor.slot() as submit:
        jobs.add(spec)
        try:
            submit(spec.id)
        except AppError:
            jobs.withdraw(spec.id)
            raise
    return jobs.status(spec.id, now)
