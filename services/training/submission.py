"""From a training request to a job that a worker takes."""

import itertools
import logging
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256

from errors import AppError, InvalidRequest, JobNotFound, JobNotRetryable, StoreUnavailable, TooManyRequests
from models.specs import MODEL_SPECS
from schemas.job import Job, JobKind, JobSpec, KeyUse
from schemas.train import TrainRequest
from schemas.webhook import Webhook
from services.catalogue import new_model_id
from services.jobs.executor import Executor
from services.jobs.job import START_WITHIN, Jobs, naming_job, refused_end, was_refused
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
    webhook: Webhook | None = None,
) -> Job:
    """A new job that trains a model; or the job that was made before with the same Idempotency-Key.

    A job that the executor refused ends as failed, and the next request with its key makes another.

    Args:
        request: what to train.
        jobs: stores the job.
        executor: runs it.
        now: the time.
        token: eight hex digits that make the ids unique.
        key: the caller's Idempotency-Key.
        universes: those of the machine that trains.
        webhook: where the end is announced.

    Raises:
        IdempotencyKeyReused: the key was used with another request.
        UniverseNotFound, TrainingUnavailable: there is no such universe where the job would run.
        InvalidRequest: a kind of model for one ticker cannot be trained on a universe.
        TrainingCapacityExceeded, TrainerUnavailable: the job cannot run now; it is not stored, or has failed.
    """
    _validate_universe(request, universes)
    spec = _spec(request, executor, now, token, webhook)
    if key is None:
        return submit_spec(spec, jobs, executor, now)
    request_sha256 = digest_of(request.model_dump_json(), webhook)
    return submit_once(spec, request_sha256, jobs, executor, now, key, lambda job: not was_refused(job))


def digest_of(request: str, webhook: Webhook | None) -> str:
    """What requests with the same Idempotency-Key must have in common."""
    return sha256((request if webhook is None else f"{request} {webhook.model_dump_json()}").encode()).hexdigest()


def submit_once(
    spec: JobSpec,
    request_sha256: str,
    jobs: Jobs,
    executor: Executor,
    now: datetime,
    key: str,
    is_usable: Callable[[Job], bool],
) -> Job:
    """The newest job of the key, if it is usable; else a new one with this spec. Raises what ``submit_spec`` does.

    Raises:
        IdempotencyKeyReused: the key was used with another request.
    """
    use = KeyUse(job_id=spec.id, created_at=now, model_id=spec.model_id, request_sha256=request_sha256)
    key_sha256 = sha256(key.encode()).hexdigest()
    for attempt in itertools.count(jobs.attempts(key_sha256)):
        first = jobs.use_key(key_sha256, use, attempt)
        if first is use:
            break
        try:
            with naming_job(first.job_id):
                job = jobs.status(first.job_id, now)
        except JobNotFound:  # its request failed between the key and the job, or is just there
            spec = spec.model_copy(update={"id": first.job_id, "model_id": first.model_id})
            break
        if is_usable(job):
            return job
    return submit_spec(spec, jobs, executor, now)


def retry_training(
    job_id: str, jobs: Jobs, executor: Executor, now: datetime, token: str, universes: Universes = NO_UNIVERSES
) -> Job:
    """A new job with the request of one that failed, was cancelled or lost.

    Raises:
        JobNotFound: there is no such job.
        JobNotRetryable: it has not ended, or has succeeded.
        UniverseNotFound, TrainingUnavailable: its universe no longer exists.
        TrainingCapacityExceeded, TrainerUnavailable: the new job cannot run now; it is not stored, or has failed.
    """
    job = jobs.status(job_id, now)
    validate_retryable(job)
    assert isinstance(job.request, TrainRequest)  # noqa: S101 - the caller's choice of function
    _validate_universe(job.request, universes)
    webhook = jobs.spec(job_id).webhook
    spec = _spec(job.request, executor, now, token, webhook).model_copy(update={"retry_of": job_id})
    return submit_spec(spec, jobs, executor, now)


def validate_retryable(job: Job) -> None:
    """Check that the job failed, was cancelled or lost.

    Raises:
        JobNotRetryable: it has not ended, or has succeeded.
    """
    if job.state not in RETRYABLE:
        raise JobNotRetryable(
            f"job {job.id!r} is {job.state}; only a {' or '.join(RETRYABLE)} job can be retried",
            job_id=job.id,
            state=job.state,
        )


def resume_waiting(
    jobs: Jobs, executor: Executor, now: datetime, kind: JobKind = "training", since: datetime | None = None
) -> None:
    """Start workers on this executor's jobs that no worker has, as many as there is room for.

    An earlier process left them waiting, or the store failed when they were submitted or their worker began.

    Args:
        jobs: has the jobs.
        executor: runs them, if they are for it.
        now: the time.
        kind: the jobs of the executor's lane.
        since: the first day of jobs to look at; None for all of them.
    """
    try:
        waiting = jobs.waiting(since, None if since is None else now)
    except StoreUnavailable as error:
        log.warning("waiting jobs were not resumed: %s", error.message)
        return
    for job_id in waiting:
        try:
            spec = jobs.spec(job_id)
            if spec.kind != kind or not spec.is_for(executor.name) or jobs.status(job_id, now).state != "queued":
                continue
            with executor.slot() as submit:
                submit(job_id)
        except TooManyRequests:  # those that wait are mostly here because the queue is full
            log.debug("there is no room for job %s and later ones", job_id)
            return
        except AppError as error:
            log.warning("job %s was not resumed: %s", job_id, error.message)


def _validate_universe(request: TrainRequest, universes: Universes) -> None:
    if request.universe is None:
        return
    if not MODEL_SPECS[request.model].pools:
        raise InvalidRequest(f"{request.model} is fitted to one ticker: train a universe with a return_lstm")
    universes.get(request.universe)


def _spec(
    request: TrainRequest, executor: Executor, now: datetime, token: str, webhook: Webhook | None = None
) -> JobSpec:
    return JobSpec(
        id=f"{now:%Y%m%dt%H%M%S}-{token}",
        created_at=now,
        claim_deadline=now + START_WITHIN,
        executor=executor.name,
        model_id=new_model_id(request.all_tickers, now, token, request.universe),
        request=request,
        webhook=webhook,
    )


def submit_spec(spec: JobSpec, jobs: Jobs, executor: Executor, now: datetime) -> Job:
    """Store the job and start it.

    Raises:
        TooManyRequests, TrainerUnavailable: the job cannot run now; it is not stored, or has failed.
    """
    with executor.slot() as submit, naming_job(spec.id):
        # only the request that stores the job submits it: another one with the same key must not end it
        if jobs.add(spec):
            try:
                submit(spec.id)
            except AppError as error:
                _refuse(spec, error, jobs, now)
                raise
    try:
        with naming_job(spec.id):
            return jobs.status(spec.id, now)
    except StoreUnavailable as error:  # the job exists, and can be read later
        log.warning("job %s was submitted, but could not be read: %s", spec.id, error.message)
        return Job.waiting(spec)


def _refuse(spec: JobSpec, why: AppError, jobs: Jobs, now: datetime) -> None:
    """End the job, and never delete it: another request with its key may have returned it already."""
    try:
        jobs.end(spec.id, refused_end(now, why))
    except StoreUnavailable as error:
        log.warning("job %s waits until its deadline: %s", spec.id, error.message)
