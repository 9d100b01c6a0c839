"""Jobs as documents in the artifact store. Only the progress is ever overwritten.

Only what is older than the retention is deleted.

A job is a folder ``jobs/{id}/``: its spec, the claim of its one worker, a request to cancel, and its end. Each is
created at most once, because every store has an atomic create-if-absent: two workers never claim one job, and only
the first end counts.
"""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import BaseModel

from errors import (
    AppError,
    ArtifactCorrupt,
    ArtifactNotFound,
    BacktestCapacityExceeded,
    IdempotencyKeyReused,
    JobCancelled,
    JobFinished,
    JobLost,
    JobNotFound,
    TrainerUnavailable,
    TrainingCapacityExceeded,
)
from schemas.job import (
    JOB_ID_PATTERN,
    CancelRequest,
    Claim,
    Job,
    JobEnd,
    JobFailure,
    JobPage,
    JobSpec,
    JobState,
    KeyUse,
    Progress,
)
from schemas.train import TrainRequest
from services.jobs.liveness import Liveness
from services.storage.documents import DocumentT, read_document
from services.storage.store import ArtifactStore
from services.webhooks.deliveries import delivery_status, job_delivery, open_delivery
from telemetry.measures import TRAINING_SECONDS, TRAININGS, Meter

JOBS = "jobs/"
SPEC, CLAIM, PROGRESS, CANCEL, END = "spec.json", "claim.json", "progress.json", "cancel.json", "end.json"

KEYS = "idempotency/"

LOST_AFTER_S = 60.0  # without a change of the heartbeat that the reader itself would have seen
DEAD_AFTER = timedelta(hours=1)  # older by the wall clock: lost for a reader that looks for the first time, too
START_WITHIN = timedelta(hours=1)
NIGHT = timedelta(hours=12)

log = logging.getLogger(__name__)


_SPEC_KEY = re.compile(rf"{JOBS}({JOB_ID_PATTERN.strip('^$')})/{re.escape(SPEC)}")
_KEY_USE = re.compile(r"[0-9a-f]+(?:\.([0-9]+))?\.json")


class Jobs:
    """The jobs of a store, and when this reader last saw the heartbeat of each change.

    Args:
        store: has the documents.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(self, store: ArtifactStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._liveness = Liveness(monotonic)

    def add(self, spec: JobSpec) -> bool:
        """Store a waiting job; False if it is stored already. The announcement of its end comes first."""
        if spec.webhook is not None:
            open_delivery(self._store, job_delivery(spec.id), spec.created_at)
        return self._create(spec.id, SPEC, spec)

    def attempts(self, key_sha256: str) -> int:
        """How many attempts of an Idempotency-Key were refused, at least."""
        names = (key.removeprefix(KEYS) for key in self._store.list_keys(f"{KEYS}{key_sha256}"))
        numbers = [int(found[1] or 0) for name in names if (found := _KEY_USE.fullmatch(name))]
        return max(numbers, default=0)

    def use_key(self, key_sha256: str, use: KeyUse, attempt: int = 0) -> KeyUse:
        """The first use of an Idempotency-Key after so many refused attempts: ``use`` itself if there was none.

        Raises:
            IdempotencyKeyReused: it was used with another request.
        """
        name = f"{KEYS}{key_sha256}{f'.{attempt}' if attempt else ''}.json"
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
        if spec.id != job_id:
            raise ArtifactCorrupt(f"the job {job_id!r} has the documents of {spec.id!r}")
        return spec

    def claim(self, spec: JobSpec, worker: str, now: datetime) -> bool:
        """Claim a job; False if another worker has it, its deadline has passed, or it has ended."""
        if now > spec.claim_deadline or self._exists(spec.id, END):
            return False
        return self._create(spec.id, CLAIM, Claim(worker=worker, claimed_at=now))

    def is_claimed_by(self, job_id: str, worker: str) -> bool:
        """Whether this worker has claimed the job, and it has not ended."""
        claim = self._find(job_id, CLAIM, Claim)
        return claim is not None and claim.worker == worker and not self._exists(job_id, END)

    def report(self, job_id: str, progress: Progress) -> None:
        """Store the progress; only the worker that claimed the job does."""
        self._store.put(_key(job_id, PROGRESS), _to_json(progress))

    def is_stopped(self, job_id: str) -> bool:
        """Whether the worker should stop, because the job was cancelled or another process ended it.

        One call of the store: a heartbeat must come through within ``LOST_AFTER_S`` where each call is tried thrice.
        """
        return any(key.endswith((f"/{CANCEL}", f"/{END}")) for key in self._store.list_keys(f"{JOBS}{job_id}/"))

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
        """The current state of a job; ends it as lost if no worker came in time or its worker fell silent.

        A worker is silent for a reader that has seen no other heartbeat for ``LOST_AFTER_S`` by its own monotonic
        clock. For a first look, only a heartbeat older than ``DEAD_AFTER`` is one.

        Raises:
            JobNotFound: there is no such job.
        """
        spec = self.spec(job_id)
        end, claim = self._find(job_id, END, JobEnd), self._find(job_id, CLAIM, Claim)
        progress = self._find(job_id, PROGRESS, Progress)
        if end is None and (loss := self._loss(spec, claim, progress, now)) is not None:
            self.end(job_id, loss)
            end = read_document(self._store, _key(job_id, END), JobEnd)
        if end is not None:
            self._liveness.forget(job_id)
        state: JobState = end.state if end is not None else "queued" if claim is None else "running"
        known = {
            "state": state,
            "cancel_requested": self._exists(job_id, CANCEL),
            "started_at": None if claim is None else claim.claimed_at,
            "ended_at": None if end is None else end.at,
            "progress": progress,
            "result": None if end is None else end.result,
            "error": None if end is None else end.error,
            "webhook": spec.webhook and delivery_status(self._store, spec.webhook, job_delivery(job_id)),
        }
        return Job.waiting(spec).model_copy(update=known)

    def page(self, limit: int, after: str | None, now: datetime) -> JobPage:
        """Up to ``limit`` jobs, newest first, older than ``after``; those that cannot be read by their ids alone."""
        older = [job_id for job_id in self._ids(self._store.list_keys(JOBS)) if after is None or job_id < after]
        shown = older[:limit]
        jobs: list[Job] = []
        unreadable: list[str] = []
        for job_id in shown:
            try:
                job = self.status(job_id, now)
                jobs.append(job.model_copy(update={"result": None}) if job.kind == "backtest" else job)
            except JobNotFound:
                continue  # it has expired since the list was made
            except ArtifactCorrupt as error:
                log.warning("job %s cannot be read: %s", job_id, error.message)
                unreadable.append(job_id)
        next_after = shown[-1] if len(older) > limit else None
        return JobPage(jobs=tuple(jobs), next_after=next_after, unreadable=tuple(unreadable))

    def waiting(self, since: datetime | None = None, until: datetime | None = None) -> list[str]:
        """Ids of the jobs that are neither claimed nor ended, oldest first.

        With ``since`` and ``until``, only those of these two days are listed: there may be months of jobs.
        """
        days = [f"{day:%Y%m%d}" for day in (since, until) if day is not None] or [""]
        keys = [key for day in sorted({*days}) for key in self._store.list_keys(f"{JOBS}{day}")]
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
        return spec is not None and isinstance(spec.request, TrainRequest) and spec.request.promote_to is not None

    def _ids(self, keys: Iterable[str]) -> list[str]:
        """Newest first; a folder with another name is none of a job."""
        ids = (found[1] for key in keys if (found := _SPEC_KEY.fullmatch(key)))
        return sorted(ids, reverse=True)

    def _loss(self, spec: JobSpec, claim: Claim | None, progress: Progress | None, now: datetime) -> JobEnd | None:
        """The end of a lost job; None if it is not lost."""
        if claim is None:
            return lost_end(now, "no worker claimed the job in time") if now > spec.claim_deadline else None
        heartbeat = claim.claimed_at if progress is None else progress.at
        silence_s, limit_s = self._liveness.silence_s(spec.id, heartbeat), LOST_AFTER_S
        if silence_s is None:
            silence_s, limit_s = (now - heartbeat).total_seconds(), DEAD_AFTER.total_seconds()
        return lost_end(now, f"the worker sent no heartbeat for {silence_s:.0f} s") if silence_s > limit_s else None

    def _create(self, job_id: str, name: str, document: BaseModel) -> bool:
        return self._store.create(_key(job_id, name), _to_json(document))

    def _exists(self, job_id: str, name: str) -> bool:
        return self._store.exists(_key(job_id, name))

    def _find(self, job_id: str, name: str, kind: type[DocumentT]) -> DocumentT | None:
        try:
            return read_document(self._store, _key(job_id, name), kind)
        except ArtifactNotFound:
            return None


def job_url(job_id: str) -> str:
    """The address of a job, relative to the API."""
    return f"/{JOBS}{job_id}"


@contextmanager
def naming_job(job_id: str) -> Iterator[None]:
    """Let every error name the job by ``job_id`` and ``job_url``: it exists, whatever has failed since."""
    try:
        yield
    except AppError as error:
        error.add_context(job_id=job_id, job_url=job_url(job_id))
        raise
    except Exception as error:  # the caller sees no more than that of any unexpected failure, but for the job
        log.exception("unexpected failure [job %s]", job_id)
        opaque = "unexpected error in the server; the server's log has the details under the job's id"
        raise AppError(opaque, job_id=job_id, job_url=job_url(job_id)) from error


def record_end(meter: Meter, job: Job) -> None:
    """Count a training that has ended, and the time it took."""
    if job.ended_at is None or job.kind != "training":
        return
    meter.record(TRAININGS, state=job.state)
    if job.started_at is not None:
        seconds = (job.ended_at - job.started_at).total_seconds()
        meter.record(TRAINING_SECONDS, max(0.0, seconds))  # two machines may have written the two times


def refused_end(now: datetime, why: AppError) -> JobEnd:
    return JobEnd(state="failed", at=now, error=JobFailure.of(why))


def was_refused(job: Job) -> bool:
    """Whether the executor refused the job; no worker ends one with these errors."""
    refusals = (TrainingCapacityExceeded.code, BacktestCapacityExceeded.code, TrainerUnavailable.code)
    return job.error is not None and job.error.code in refusals


def lost_end(now: datetime, why: str) -> JobEnd:
    return JobEnd(state="lost", at=now, error=JobFailure.of(JobLost(f"{why}; the job can be retried")))


def cancelled_end(job_id: str, now: datetime) -> JobEnd:
    return JobEnd(state="cancelled", at=now, error=JobFailure.of(JobCancelled(f"job {job_id!r} was cancelled")))


def _key(job_id: str, name: str) -> str:
    return f"{JOBS}{job_id}/{name}"


def _to_json(document: BaseModel) -> bytes:
    return document.model_dump_json().encode()
