"""A job: its documents in the store, and the view of it that the API returns."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from errors import AppError, JobFailed
from schemas.common import Document, ModelId
from schemas.train import TrainRequest, TrainResult

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "lost"]
Ending = Literal["succeeded", "failed", "cancelled", "lost"]
JOB_ID_PATTERN = r"^[0-9]{8}t[0-9]{6}-[0-9a-f]{8}$"

JobId = Annotated[
    str,
    Field(pattern=JOB_ID_PATTERN, description="Id of a job; later jobs sort after earlier ones."),
]


class JobSpec(Document):
    """The training to be done; written once, when the job is submitted."""

    id: JobId
    created_at: datetime
    claim_deadline: datetime = Field(description="A job that no worker has taken by then is lost.")
    model_id: ModelId = Field(description="The id that the model will have.")
    request: TrainRequest
    retry_of: JobId | None = None


class Claim(Document):
    """The worker of a job; of all that try to write this document, one succeeds."""

    worker: str
    claimed_at: datetime


class CancelRequest(Document):
    requested_at: datetime


class Progress(Document):
    """How far a worker is; ``at`` is also its sign of life."""

    at: datetime
    epoch: int = Field(description="Finished passes over the fit part.")
    max_epochs: int
    validation_losses: tuple[float, ...] = Field(description="Of every epoch so far; they go into the card.")
    share: float = Field(ge=0, le=1, description="Epochs done, of the most that are allowed; it may stop earlier.")
    estimated_end: datetime | None = Field(description="At the pace so far; null before the first epoch.")


class JobFailure(Document):
    """An error as a job document keeps it: what a caller who waits for the training is answered."""

    code: str = Field(description="See docs/errors.md.")
    status: int
    detail: str
    retry_after_s: int | None = None
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
    """How a job ended; of several ends the first one written stands."""

    state: Ending
    at: datetime
    result: TrainResult | None = None
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
    state: JobState
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    model_id: ModelId = Field(description="The id that the model has once the job has succeeded.")
    request: TrainRequest
    retry_of: JobId | None
    progress: Progress | None
    result: TrainResult | None
    error: JobFailure | None

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
