"""A job: the documents it consists of in the store, and what a caller sees of it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

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
    """What is to be done, written once by whoever asks for it."""

    id: JobId
    created_at: datetime
    claim_deadline: datetime = Field(description="A job that no worker has taken by then is lost.")
    model_id: ModelId = Field(description="The id that the model will have.")
    request: TrainRequest
    retry_of: JobId | None = None


class Claim(Document):
    """Who works on a job; of all workers that try, one gets to write it."""

    worker: str
    claimed_at: datetime


class CancelRequest(Document):
    """Somebody wants the job to stop."""

    requested_at: datetime


class Progress(Document):
    """How far a worker is, and by its time a sign of life."""

    at: datetime
    epoch: int = Field(description="Finished passes over the fit part.")
    max_epochs: int
    validation_losses: tuple[float, ...] = Field(description="Of every epoch so far; they go into the card.")
    share: float = Field(ge=0, le=1, description="Part done of the most that is allowed: it may stop earlier.")
    estimated_end: datetime | None = Field(description="At the pace so far; null before the first epoch.")


class JobFailure(Document):
    """The error that would have been the answer, had the caller waited."""

    code: str = Field(description="See docs/errors.md.")
    status: int
    detail: str
    retry_after_s: int | None = None
    context: dict[str, Any] = Field(default={}, description="Further facts, such as ``needed`` and ``found``.")


class JobEnd(Document):
    """How a job ended; whoever writes it first decides."""

    state: Ending
    at: datetime
    result: TrainResult | None = None
    error: JobFailure | None = None


class KeyUse(Document):
    """What an Idempotency-Key was first used for."""

    job_id: JobId
    created_at: datetime
    model_id: ModelId
    request_sha256: str


class Job(Document):
    """A job as it stands."""

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


class JobPage(Document):
    """Some jobs, newest first, and where the next page starts."""

    jobs: tuple[Job, ...]
    next_after: JobId | None = Field(description="Pass as ``after`` for the next page; null on the last.")
