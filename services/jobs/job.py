"""Jobs as documents in the artifact store. Only the progress is ever overwritten.

A job is a folder ``jobs/{id}/``: its spec, the claim of its one worker, a request to cancel, and its end. Each is
created at most once, because every store has an atomic create-if-absent: two workers never claim one job, and only
the first end counts.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import BaseModel

from errors import (
    ArtifactCorrupt,
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
SPEC, CLAIM, PROGRESS, CANCEL, END = "spec.json", "claim.json", "progress.json", "cancel.json", "end.json"

LOST_AFTER_S = 20.0  # without a heartbeat; workers write one every few seconds
START_WITHIN = timedelta(hours=1)
NIGHT = timedelta(hours=12)


class Jobs:
    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def add(self, spec: JobSpec) -> None:
        """Store a waiting job; adding it again changes nothing."""
        self._create(spec.id, SPEC, spec)

    def withdraw(self, job_id: str) -> None:
        """Delete a job that no worker will run."""
        self._store.delete(_key(job_id, SPEC))

    def use_key(self, key_sha256: str, use: KeyUse) -> KeyUse:
        """The first use of an Idempotency-Key: ``use`` itself if the key is new.

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

    def spec(self, job_id: str) -> JobSpec:
        """Read the spec of a job.

        Raises:
            JobNotFound: there is no such job.
        """
        spec = self._find(job_id, SPEC, JobSpec)
        if spec is None:
            raise JobNotFound(f"no job {job_id!r}", job_id=job_id)
        return spec

    def claim(self, spec: JobSpec, worker: str, now: datetime) -> bool:
        """Claim a job; False if another worker has it, its deadline has passed, or it has ended."""
        if now > spec.claim_deadline or self._exists(spec.id, END):
            return False
        return self._create(spec.id, CLAIM, Claim(worker=worker, claimed_at=now))

    def report(self, job_id: str, progress: Progress) -> None:
        """Store the progress; only the worker that claimed the job does."""
        self._store.put(_key(job_id, PROGRESS), _to_json(progress))

    def is_stopped(self, job_id: str) -> bool:
        """Whether the worker should stop, because the job was cancelled or another process ended it."""
        return self._exists(job_id, CANCEL) or self._exists(job_id, END)

    def end(self, job_id: str, end: JobEnd) -> bool:
        """End a job; False if it has ended before, because only the first end counts."""
        return self._create(job_id, END, end)

    def cancel(self, job_id: str, now: datetime) -> Job:
        """Cancel a job: at once if it waits, else at the next heartbeat of its worker.

        Raises:
            JobNotFound: there is no such job.
            JobFinished: it has ended.
        """
        job = self.status(job_id, now)
        if job.ended_at is not None:
            raise JobFinished(f"job {job_id!r} has already ended as {job.state}", job_id=job_id, state=job.state)
        self._create(job_id, CANCEL, CancelRequest(requested_at=now))
        if not self._exists(job_id, CLAIM):
            self.end(job_id, cancelled_end(job_id, now))
        return self.status(job_id, now)

    def status(self, job_id: str, now: datetime) -> Job:
        """The current state of a job; ends it as lost if its worker has stopped writing heartbeats.

        Raises:
            JobNotFound: there is no such job.
        """
        spec = self.spec(job_id)
        end, claim = self._find(job_id, END, JobEnd), self._find(job_id, CLAIM, Claim)
        progress = self._find(job_id, PROGRESS, Progress)
        if end is None and (loss := _loss(spec, claim, progress, now)) is not None:
            self.end(job_id, loss)
            end = read_document(self._store, _key(job_id, END), JobEnd)
        state: JobState = end.state if end is not None else "queued" if claim is None else "running"
        return Job(
            id=job_id,
            state=state,
            cancel_requested=self._exists(job_id, CANCEL),
            created_at=spec.created_at,
            started_at=None if claim is None else claim.claimed_at,
            ended_at=None if end is None else end.at,
            model_id=spec.model_id,
            request=spec.request,
            retry_of=spec.retry_of,
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
        """Ids of the jobs that are neither claimed nor ended, oldest first."""
        keys = self._store.list_keys(JOBS)
        taken = {key.split("/")[1] for key in keys if key.endswith((f"/{CLAIM}", f"/{END}"))}
        return [job_id for job_id in reversed(self._ids(keys)) if job_id not in taken]

    def family_position(self, spec: JobSpec) -> int:
        """The position of a job among those that may move an alias and were submitted in the ``NIGHT`` before it.

        Later submissions do not change it: ids are in the order of time.
        """
        since = f"{spec.created_at - NIGHT:%Y%m%dt%H%M%S}"
        days = sorted({since[:8], spec.id[:8]})
        ids = [job_id for day in days for job_id in self._ids(self._store.list_keys(f"{JOBS}{day}"))]
        earlier = [job_id for job_id in ids if since <= job_id < spec.id]
        return 1 + sum(self._promotes(job_id) for job_id in earlier)

    def _promotes(self, job_id: str) -> bool:
        try:
            spec = self._find(job_id, SPEC, JobSpec)
        except ArtifactCorrupt:
            return True
        return spec is not None and spec.request.promote_to is not None

    def _ids(self, keys: Iterable[str]) -> list[str]:
        return sorted((key.split("/")[1] for key in keys if key.endswith(f"/{SPEC}")), reverse=True)

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
    return JobEnd(state="lost", at=now, error=JobFailure.of(JobLost(f"{why}; the job can be retried")))


def cancelled_end(job_id: str, now: datetime) -> JobEnd:
    return JobEnd(state="cancelled", at=now, error=JobFailure.of(JobCancelled(f"job {job_id!r} was cancelled")))


def _loss(spec: JobSpec, claim: Claim | None, progress: Progress | None, now: datetime) -> JobEnd | None:
    """The end of a lost job; None if it is not lost."""
    if claim is None:
        return lost_end(now, "no worker claimed the job in time") if now > spec.claim_deadline else None
    last_sign = claim.claimed_at if progress is None else max(claim.claimed_at, progress.at)
    silent_s = (now - last_sign).total_seconds()
    return lost_end(now, f"the worker sent no heartbeat for {silent_s:.0f} s") if silent_s > LOST_AFTER_S else None


def _key(job_id: str, name: str) -> str:
    return f"{JOBS}{job_id}/{name}"


def _to_json(document: BaseModel) -> bytes:
    return document.model_dump_json().encode()
