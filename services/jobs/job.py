"""Jobs as documents of the artifact store, of which none but the progress is ever overwritten.

A job is a folder ``jobs/{id}/``: its order, the claim of the one worker that has it, a request to cancel, and
its end. Each is created once or not at all: create-if-absent is the one primitive that every store keeps, so
two workers never hold one job, and of two endings the first one stands.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel

from errors import (
    AppError,
    ArtifactNotFound,
    IdempotencyKeyReused,
    JobCancelled,
    JobFinished,
    JobLost,
    JobNotFound,
)
from schemas.job import CancelRequest, Claim, Job, JobEnd, JobFailure, JobPage, JobSpec, JobState, KeyUse, Progress
from services.storage.documents import DocumentT, read_document
from services.storage.store import ArtifactStore
from telemetry.measures import TRAINING_SECONDS, TRAININGS, Meter

JOBS = "jobs/"
ORDER, CLAIM, PROGRESS, CANCEL, END = "order.json", "claim.json", "progress.json", "cancel.json", "end.json"

LOST_AFTER_S = 20.0  # without a sign of life; workers give one every few seconds
START_WITHIN = timedelta(hours=1)


class Jobs:
    """The jobs of a store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def add(self, order: JobSpec) -> None:
        """Make a job that waits for a worker; adding it again changes nothing."""
        self._create(order.id, ORDER, order)

    def withdraw(self, job_id: str) -> None:
        """Forget a job that nobody was told of and nobody will run."""
        self._store.delete(_key(job_id, ORDER))

    def use_key(self, key_sha256: str, use: KeyUse) -> KeyUse:
        """What the Idempotency-Key was first used for, which is this where it is new.

        Raises:
            IdempotencyKeyReused: it was used with another request.
        """
        name = f"idempotency/{key_sha256}.json"
        if self._store.create(name, _to_json(use)):
            return use
        first = read_document(self._store, name, KeyUse)
        if first.request_sha256 != use.request_sha256:
            raise IdempotencyKeyReused("the Idempotency-Key was used with another request", job_id=first.job_id)
        return first

    def order(self, job_id: str) -> JobSpec:
        """What a job is to do.

        Raises:
            JobNotFound: there is no such job.
        """
        try:
            return read_document(self._store, _key(job_id, ORDER), JobSpec)
        except ArtifactNotFound:
            raise JobNotFound(f"no job {job_id!r}", job_id=job_id) from None

    def claim(self, job_id: str, worker: str, now: datetime) -> bool:
        """Take a job; False when another worker has it, or nobody may have it any more."""
        if now > self.order(job_id).claim_deadline or self._exists(job_id, END):
            return False
        return self._create(job_id, CLAIM, Claim(worker=worker, claimed_at=now))

    def report(self, job_id: str, progress: Progress) -> None:
        """Tell how far a job is; only the worker that claimed it does."""
        self._store.put(_key(job_id, PROGRESS), _to_json(progress))

    def is_stopped(self, job_id: str) -> bool:
        """Whether the worker of a job should give up: somebody asked for it, or the job was declared over."""
        return self._exists(job_id, CANCEL) or self._exists(job_id, END)

    def end(self, job_id: str, end: JobEnd) -> bool:
        """End a job; False when it had ended before, which then stands."""
        return self._create(job_id, END, end)

    def cancel(self, job_id: str, now: datetime) -> Job:
        """Cancel a job: at once when nobody works on it yet, else when its worker next looks.

        Raises:
            JobNotFound: there is no such job.
            JobFinished: it is over already.
        """
        job = self.status(job_id, now)
        if job.ended_at is not None:
            raise JobFinished(f"job {job_id!r} is over: it has {job.state}", job_id=job_id, state=job.state)
        self._create(job_id, CANCEL, CancelRequest(requested_at=now))
        if not self._exists(job_id, CLAIM):
            self.end(job_id, cancelled_end(job_id, now))
        return self.status(job_id, now)

    def status(self, job_id: str, now: datetime) -> Job:
        """A job as it stands; one whose worker has gone silent is declared lost by whoever looks.

        Raises:
            JobNotFound: there is no such job.
        """
        order = self.order(job_id)
        end, claim, progress = (
            self._find(job_id, END, JobEnd),
            self._find(job_id, CLAIM, Claim),
            self._find(job_id, PROGRESS, Progress),
        )
        if end is None and (loss := _loss(order, claim, progress, now)) is not None:
            self.end(job_id, loss)
            end = read_document(self._store, _key(job_id, END), JobEnd)
        state: JobState = end.state if end is not None else "queued" if claim is None else "running"
        return Job(
            id=job_id,
            state=state,
            cancel_requested=self._exists(job_id, CANCEL),
            created_at=order.created_at,
            started_at=None if claim is None else claim.claimed_at,
            ended_at=None if end is None else end.at,
            model_id=order.model_id,
            request=order.request,
            retry_of=order.retry_of,
            progress=progress,
            result=None if end is None else end.result,
            error=None if end is None else end.error,
        )

    def page(self, limit: int, after: str | None, now: datetime) -> JobPage:
        """Up to ``limit`` jobs, newest first, older than ``after``."""
        older = [job_id for job_id in self._ids(self._store.list_keys(JOBS)) if after is None or job_id < after]
        shown = older[:limit]
        jobs = tuple(self.status(job_id, now) for job_id in shown)
        return JobPage(jobs=jobs, next_after=shown[-1] if len(older) > limit else None)

    def waiting(self) -> list[str]:
        """Ids of the jobs that nobody has claimed or ended, oldest first."""
        keys = self._store.list_keys(JOBS)
        taken = {key.split("/")[1] for key in keys if key.endswith((f"/{CLAIM}", f"/{END}"))}
        return [job_id for job_id in reversed(self._ids(keys)) if job_id not in taken]

    def _ids(self, keys: Iterable[str]) -> list[str]:
        return sorted((key.split("/")[1] for key in keys if key.endswith(f"/{ORDER}")), reverse=True)

    def _create(self, job_id: str, name: str, document: BaseModel) -> bool:
        return self._store.create(_key(job_id, name), _to_json(document))

    def _exists(self, job_id: str, name: str) -> bool:
        return self._store.exists(_key(job_id, name))

    def _find(self, job_id: str, name: str, kind: type[DocumentT]) -> DocumentT | None:
        try:
            return read_document(self._store, _key(job_id, name), kind)
        except ArtifactNotFound:
            return None


def record_end(meter: Meter, job: Job) -> None:
    """Count a job that has ended, and the time it took."""
    if job.ended_at is None:
        return
    meter.record(TRAININGS, state=job.state)
    if job.started_at is not None:
        meter.record(TRAINING_SECONDS, (job.ended_at - job.started_at).total_seconds())


def lost_end(now: datetime, why: str) -> JobEnd:
    """The end of a job whose worker cannot tell it itself."""
    return JobEnd(state="lost", at=now, error=job_failure(JobLost(f"{why}; the job can be retried")))


def cancelled_end(job_id: str, now: datetime) -> JobEnd:
    """The end of a job that nobody wants any more."""
    return JobEnd(state="cancelled", at=now, error=job_failure(JobCancelled(f"job {job_id!r} was cancelled")))


def job_failure(error: AppError) -> JobFailure:
    """An error as a job keeps it."""
    return JobFailure(
        code=error.code,
        status=error.status_code,
        detail=error.message,
        retry_after_s=error.retry_after_s,
        context=dict(error.context),
    )


def _loss(order: JobSpec, claim: Claim | None, progress: Progress | None, now: datetime) -> JobEnd | None:
    """That a job is lost, where it is."""
    if claim is None:
        return lost_end(now, "no worker took the job in time") if now > order.claim_deadline else None
    last_sign = claim.claimed_at if progress is None else max(claim.claimed_at, progress.at)
    silent_s = (now - last_sign).total_seconds()
    return lost_end(now, f"the worker gave no sign of life for {silent_s:.0f} s") if silent_s > LOST_AFTER_S else None


def _key(job_id: str, name: str) -> str:
    return f"{JOBS}{job_id}/{name}"


def _to_json(document: BaseModel) -> bytes:
    return document.model_dump_json().encode()
