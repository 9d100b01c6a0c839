"""From a training request to a job that some worker takes."""

import logging
from datetime import datetime
from hashlib import sha256

from errors import AppError, JobFailed, JobNotFound, JobNotRetryable, StoreUnavailable, TrainingCapacityExceeded
from schemas.job import Job, JobSpec, KeyUse
from schemas.train import TrainRequest
from services.catalogue import new_model_id
from services.jobs.executor import Executor
from services.jobs.job import START_WITHIN, Jobs

log = logging.getLogger(__name__)

RETRYABLE = ("failed", "cancelled", "lost")


def submit_training(
    request: TrainRequest, jobs: Jobs, executor: Executor, now: datetime, token: str, key: str | None = None
) -> Job:
    """A new job that trains a model; or the job that the same Idempotency-Key made before.

    Args:
        request: what to train.
        jobs: where the job is kept.
        executor: who runs it.
        now: the time.
        token: eight hex digits that make the ids unique.
        key: the caller's Idempotency-Key.

    Raises:
        IdempotencyKeyReused: the key was used with another request.
        TrainingCapacityExceeded, TrainerUnavailable: nobody can run it now; nothing is left behind.
    """
    order = _order(request, now, token)
    if key is None:
        return _submit(order, jobs, executor, now)
    use = KeyUse(
        job_id=order.id,
        created_at=now,
        model_id=order.model_id,
        request_sha256=sha256(request.model_dump_json().encode()).hexdigest(),
    )
    first = jobs.use_key(sha256(key.encode()).hexdigest(), use)
    try:
        return jobs.status(first.job_id, now)
    except JobNotFound:  # ours, or one whose maker got no further
        order = order.model_copy(update={"id": first.job_id, "model_id": first.model_id})
        return _submit(order, jobs, executor, now)


def retry_training(job_id: str, jobs: Jobs, executor: Executor, now: datetime, token: str) -> Job:
    """A new job that does what one did not that failed, was cancelled or lost.

    Raises:
        JobNotFound: there is no such job.
        JobNotRetryable: it is not over, or has succeeded.
        TrainingCapacityExceeded, TrainerUnavailable: nobody can run it now; nothing is left behind.
    """
    job = jobs.status(job_id, now)
    if job.state not in RETRYABLE:
        raise JobNotRetryable(
            f"job {job_id!r} is {job.state}; only one that is {', '.join(RETRYABLE)} can be retried",
            job_id=job_id,
            state=job.state,
        )
    order = _order(job.request, now, token).model_copy(update={"retry_of": job_id})
    return _submit(order, jobs, executor, now)


def resume_waiting(jobs: Jobs, executor: Executor) -> None:
    """Let workers start on jobs that wait for one since before this process began, as many as there is room for."""
    try:
        for job_id in jobs.waiting():
            with executor.slot() as submit:
                submit(job_id)
    except (StoreUnavailable, TrainingCapacityExceeded) as error:
        log.warning("waiting jobs were not resumed: %s", error.message)


def failure_of(job: Job) -> AppError:
    """The error with which a job ended, as if the caller's own request had met it."""
    if job.error is None:
        return JobFailed(f"job {job.id!r} was {job.state}", job_id=job.id)
    error = AppError.restored(
        job.error.code,
        job.error.detail,
        retry_after_s=job.error.retry_after_s,
        **{**job.error.context, "job_id": job.id},
    )
    return error or JobFailed(job.error.detail, job_id=job.id)


def _order(request: TrainRequest, now: datetime, token: str) -> JobSpec:
    return JobSpec(
        id=f"{now:%Y%m%dt%H%M%S}-{token}",
        created_at=now,
        claim_deadline=now + START_WITHIN,
        model_id=new_model_id(request.all_tickers, now, token),
        request=request,
    )


def _submit(order: JobSpec, jobs: Jobs, executor: Executor, now: datetime) -> Job:
    with executor.slot() as submit:
        jobs.add(order)
        try:
            submit(order.id)
        except AppError:
            jobs.withdraw(order.id)
            raise
    return jobs.status(order.id, now)
