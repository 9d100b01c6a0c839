"""From a long backtest to a job that a worker takes; the same backtest is one job."""

import logging
from datetime import datetime
from functools import partial

from errors import AppError, BacktestCapacityExceeded, JobFinished, StoreUnavailable
from schemas.backtest import BacktestRequest
from schemas.job import Job, JobSpec
from schemas.webhook import Webhook
from services.backtest import PreparedBacktest
from services.jobs.executor import Executor
from services.jobs.job import START_WITHIN, Jobs
from services.jobs.waiters import Waiters
from services.shared_work import SharedWork
from services.training.submission import RETRYABLE, digest_of, submit_once, submit_spec, validate_retryable

SHORT_AT_ONCE, MAX_SHORT_WAITING = 1, 3  # any more become jobs
AT_ONCE_S = 1.0  # of estimated work: a request that needs less is answered without a job

log = logging.getLogger(__name__)


def submit_backtest(
    prepared: PreparedBacktest,
    jobs: Jobs,
    executor: Executor,
    waiters: Waiters,
    now: datetime,
    token: str,
    key: str | None = None,
    webhook: Webhook | None = None,
) -> Job:
    """A job for the backtest: a new one, the one of its Idempotency-Key, or without a key that of the same backtest.

    A job that did not succeed is not found again: the figures of a backtest do not depend on when it runs. The caller
    counts as one of the job's ``waiters`` from now on.

    Args:
        prepared: the backtest.
        jobs: stores the job.
        executor: runs it.
        waiters: of this process.
        now: the time.
        token: eight hex digits that make the ids unique.
        key: the caller's Idempotency-Key.
        webhook: where the end is announced; the same backtest with another one is another job.

    Raises:
        IdempotencyKeyReused: the key was used with another request.
        BacktestCapacityExceeded, TrainerUnavailable: the job cannot run now; it is not stored, or has failed.
    """
    spec = _spec(prepared.card.model_id, prepared.request, executor, now, token, webhook)

    def is_of_the_key(job: Job) -> bool:
        if _is_wanted(job):
            waiters.join(job.id)
        return _is_wanted(job)

    def is_the_same(job: Job) -> bool:
        # a job ends with its last caller, so its callers must all be of one process
        return job.state == "succeeded" or (_is_wanted(job) and waiters.join(job.id))

    request_sha256 = digest_of(f"{prepared.card.model_id} {prepared.request.model_dump_json()}", webhook)
    waiters.begin(spec.id)
    try:
        if key is None:
            digest = prepared.digest if webhook is None else digest_of(prepared.digest, webhook)
            key, is_usable = f"backtest {digest}", is_the_same  # no header has a space: no caller's key
        else:
            is_usable = is_of_the_key
        job = submit_once(spec, request_sha256, jobs, executor, now, key, is_usable)
    except AppError:
        waiters.leave(spec.id)
        raise
    if job.id != spec.id:
        waiters.leave(spec.id)
    return job


def short_backtests() -> SharedWork[str]:
    """What answers the backtests of ``AT_ONCE_S``."""
    full = partial(BacktestCapacityExceeded, "too many short backtests are running; try again later")
    return SharedWork("backtest", SHORT_AT_ONCE, MAX_SHORT_WAITING, full)


def leave_job(job_id: str, jobs: Jobs, waiters: Waiters, now: datetime) -> None:
    """Cancel the job if the caller who leaves was the last one."""
    if not waiters.leave(job_id):
        return
    log.info("job %s is cancelled: no caller waits for it", job_id)
    try:
        jobs.cancel(job_id, now)
    except JobFinished:
        pass
    except StoreUnavailable as error:
        log.warning("job %s could not be cancelled: %s", job_id, error.message)


def retry_backtest(job: Job, jobs: Jobs, executor: Executor, now: datetime, token: str) -> Job:
    """A new job with the backtest of one that failed, was cancelled or lost.

    Raises:
        JobNotRetryable: it has not ended, or has succeeded.
        BacktestCapacityExceeded, TrainerUnavailable: the new job cannot run now; it is not stored, or has failed.
    """
    assert isinstance(job.request, BacktestRequest)  # noqa: S101 - the caller's choice of function
    validate_retryable(job)
    webhook = jobs.spec(job.id).webhook
    spec = _spec(job.model_id, job.request, executor, now, token, webhook).model_copy(update={"retry_of": job.id})
    return submit_spec(spec, jobs, executor, now)


def _is_wanted(job: Job) -> bool:
    return job.state not in RETRYABLE and not job.cancel_requested


def _spec(
    model_id: str,
    request: BacktestRequest,
    executor: Executor,
    now: datetime,
    token: str,
    webhook: Webhook | None = None,
) -> JobSpec:
    return JobSpec(
        id=f"{now:%Y%m%dt%H%M%S}-{token}",
        created_at=now,
        claim_deadline=now + START_WITHIN,
        executor=executor.name,
        kind="backtest",
        model_id=model_id,
        request=request,
        webhook=webhook,
    )
