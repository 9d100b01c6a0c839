"""A job: its documents in the store, and its state as the API returns it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from errors import AppError, JobFailed
from schemas.backtest import BacktestRequest, BacktestResponse
from schemas.common import Document, ModelId
from schemas.train import TrainRequest, TrainResult
from schemas.webhook import Webhook, WebhookStatus

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost"]
Ending = Literal["succeeded", "failed", "cancelled", "lost"]
JobKind = Literal["training", "backtest"]
Phase = Literal["fetch", "prepare", "fit", "calibrate", "test", "publish", "evaluate", "backtest", "forecast"]
JOB_ID_PATTERN = r"^[0-9]{8}t[0-9]{6}-[0-9a-f]{8}$"

JobId = Annotated[
    str,
    Field(pattern=JOB_ID_PATTERN, description="Id of a job; later jobs sort after earlier ones."),
]


class JobSpec(Document):
    """The training or the backtest to be done; written once, when the job is submitted."""

    id: JobId
    created_at: datetime
    claim_deadline: datetime = Field(description="A job that no worker has claimed by then is lost.")
    executor: str | None = Field(
        default=None, description="The only executor whose workers take the job; any in documents of older versions."
    )
    kind: JobKind = "training"
    model_id: ModelId = Field(description="The id that the trained model will have, or the model to be tested.")
    request: TrainRequest | BacktestRequest
    retry_of: JobId | None = None
    webhook: Webhook | None = Field(default=None, description="Its secret is in this document alone.")

    def is_for(self, executor: str) -> bool:
        """Whether this executor may run the job."""
        return self.executor in (None, executor)


class Claim(Document):
    """The worker of a job; of all workers that try to create this document, one succeeds."""

    worker: str
    claimed_at: datetime


class CancelRequest(Document):
    requested_at: datetime


class Progress(Document):
    """The progress of a worker; ``at`` is also its heartbeat."""

    at: datetime = Field(description="When it was written, in UTC.")
    phase: Phase = Field(
        default="fit",
        description="What the worker does: ``fetch`` prices, ``prepare`` them, ``fit`` the model, ``calibrate`` and "
        "``test`` it, ``publish`` it, and with ``promote_to`` ``evaluate`` it against the model of the alias; after "
        "``fetch``, a backtest has the one phase ``backtest``. Only runs have ``forecast``.",
    )
    fit: int = Field(
        default=1, description="2 while a network is fitted once more, with the sessions that chose its epochs."
    )
    epoch: int = Field(description="Finished epochs of the first fit.")
    max_epochs: int = Field(description="Most epochs that the first fit runs.")
    validation_losses: tuple[float, ...] = Field(
        description="Loss on the early-stopping block after each epoch; lower is better."
    )
    share: float = Field(
        ge=0,
        le=1,
        description="Of the whole job; never falls. It leaps where a fit stops before its last epoch.",
    )
    estimated_end: datetime | None = Field(
        description="Of the current fit, at the pace of its epochs and within its time; it may stop earlier. Null "
        "before the first pace is known, and in other phases."
    )


class JobFailure(Document):
    """The error that ended a job, as a caller who waits for the training receives it."""

    code: str = Field(description="See docs/errors.md.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What happened, for people.")
    retry_after_s: int | None = Field(default=None, description="Seconds to wait before another try, if known.")
    context: dict[str, Any] = Field(default={}, description="Further facts, such as ``needed`` and ``found``.")

    @classmethod
    def of(cls, error: AppError) -> "JobFailure":
        return cls(
            code=error.code,
            status=error.status_code,
            detail=error.message,
            retry_after_s=error.retry_after_s,
            context=dict(error.context),
        )


class JobEnd(Document):
    """How a job ended; only the first end that is written counts."""

    state: Ending
    at: datetime
    result: TrainResult | BacktestResponse | None = None
    error: JobFailure | None = None


class KeyUse(Document):
    """The job that an Idempotency-Key was first used for."""

    job_id: JobId
    created_at: datetime
    model_id: ModelId
    request_sha256: str


class Job(Document):
    """The current state of a job."""

    id: JobId
    kind: JobKind = Field(default="training", description="What the job does.")
    state: JobState
    cancel_requested: bool = Field(description="Whether the job is to stop; it may still run for seconds.")
    created_at: datetime
    started_at: datetime | None = Field(description="When a worker claimed it; null while it waits.")
    ended_at: datetime | None = Field(description="Null while it waits or runs.")
    model_id: ModelId = Field(
        description="Of a training, the id that the model has once the job has succeeded; of a backtest, the model."
    )
    request: TrainRequest | BacktestRequest
    retry_of: JobId | None = Field(description="The job that this one repeats.")
    progress: Progress | None = Field(description="Null before the first report of the worker.")
    result: TrainResult | BacktestResponse | None = Field(
        description="Null unless it succeeded; a page of jobs leaves out the results of backtests."
    )
    error: JobFailure | None = Field(description="Null unless it failed or was lost or cancelled.")
    webhook: WebhookStatus | None = Field(default=None, description="The announcement of the end; null without one.")

    @classmethod
    def waiting(cls, spec: JobSpec) -> "Job":
        """A job that no worker has claimed."""
        return cls(
            id=spec.id,
            kind=spec.kind,
            state="queued",
            cancel_requested=False,
            created_at=spec.created_at,
            started_at=None,
            ended_at=None,
            model_id=spec.model_id,
            request=spec.request,
            retry_of=spec.retry_of,
            progress=None,
            result=None,
            error=None,
        )

    def failure(self) -> AppError:
        """The error with which the job ended, as the class of its code; JobFailed where no class has that code."""
        if self.error is None:
            return JobFailed(f"job {self.id!r} was {self.state}", job_id=self.id)
        facts = {**self.error.context, "job_id": self.id}
        restored = AppError.restored(
            self.error.code, self.error.detail, retry_after_s=self.error.retry_after_s, **facts
        )
        return restored or JobFailed(self.error.detail, job_id=self.id)


class JobPage(Document):
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    next_after: JobId | None = Field(description="Pass as ``after`` for the next page; null on the last.")
    unreadable: tuple[JobId, ...] = Field(
        default=(), description="Jobs of this page whose documents are damaged; they count towards ``limit``."
    )
