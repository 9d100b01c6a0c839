from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from errors import (
    AppError,
    InsufficientHistory,
    InvalidRequest,
    JobFailed,
    JobNotRetryable,
    TrainerUnavailable,
    TrainingCapacityExceeded,
    TrainingUnavailable,
    UniverseNotFound,
)
from schemas.job import JobEnd, JobFailure
from schemas.train import TrainRequest
from services.jobs.executor import Submit
from services.jobs.job import Jobs
from services.training.submission import resume_waiting, retry_training, submit_training
from services.training.universe import NO_UNIVERSES, Universes
from tests.fakes import InMemoryArtifactStore

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
REQUEST = TrainRequest(ticker="WALK")


class ListingExecutor:
    """Lists the jobs submitted to it; can be full or broken."""

    def __init__(self, room: int = 10, broken: AppError | None = None) -> None:
        self.submitted: list[str] = []
        self._room = room
        self._broken = broken

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        if len(self.submitted) == self._room:
            raise TrainingCapacityExceeded("full")
        yield self._submit

    def close(self) -> None: ...

    def _submit(self, job_id: str) -> None:
        if self._broken is not None:
            raise self._broken
        self.submitted.append(job_id)


@pytest.fixture
def executor() -> ListingExecutor:
    return ListingExecutor()


def test_a_request_becomes_a_job_that_is_submitted(jobs: Jobs, executor: ListingExecutor) -> None:
    job = submit_training(REQUEST, jobs, executor, NOW, "1a2b3c4d")

    assert (job.id, job.state) == ("20240719t220000-1a2b3c4d", "queued")
    assert job.model_id == "walk-20240719-1a2b3c4d"
    assert executor.submitted == [job.id]


@pytest.mark.parametrize(
    "executor", [ListingExecutor(room=0), ListingExecutor(broken=TrainerUnavailable("not there"))], ids=["full", "down"]
)
def test_a_job_that_cannot_run_is_not_stored_and_its_key_can_be_used_again(
    jobs: Jobs, store: InMemoryArtifactStore, executor: ListingExecutor
) -> None:
    with pytest.raises((TrainingCapacityExceeded, TrainerUnavailable)):
        submit_training(REQUEST, jobs, executor, NOW, "1a2b3c4d", "order-66")

    assert store.list_keys("jobs/") == []
    later = ListingExecutor()
    job = submit_training(REQUEST, jobs, later, NOW, "99999999", "order-66")
    assert later.submitted == [job.id] == ["20240719t220000-1a2b3c4d"]


def test_a_lost_job_is_retried_as_a_new_one(jobs: Jobs, executor: ListingExecutor) -> None:
    first = submit_training(REQUEST, jobs, executor, NOW, "1a2b3c4d")
    jobs.end(first.id, JobEnd(state="lost", at=NOW))

    second = retry_training(first.id, jobs, executor, NOW, "5e6f7a8b")

    assert second.retry_of == first.id
    assert second.request == first.request
    assert second.model_id != first.model_id
    assert executor.submitted == [first.id, second.id]


@pytest.mark.parametrize("state", [None, "succeeded"])
def test_what_runs_or_has_succeeded_is_not_retried(jobs: Jobs, executor: ListingExecutor, state: str | None) -> None:
    job = submit_training(REQUEST, jobs, executor, NOW, "1a2b3c4d")
    if state is not None:
        jobs.end(job.id, JobEnd.model_validate({"state": state, "at": NOW}))

    with pytest.raises(JobNotRetryable):
        retry_training(job.id, jobs, executor, NOW, "5e6f7a8b")


def test_waiting_jobs_are_resumed_as_far_as_there_is_room(jobs: Jobs) -> None:
    waiting = [submit_training(REQUEST, jobs, ListingExecutor(), NOW, f"1a2b3c4{n}").id for n in range(3)]
    executor = ListingExecutor(room=2)

    resume_waiting(jobs, executor)

    assert executor.submitted == waiting[:2]


def test_a_failed_job_raises_what_the_caller_would_have_met(jobs: Jobs, executor: ListingExecutor) -> None:
    job = submit_training(REQUEST, jobs, executor, NOW, "1a2b3c4d")
    met = InsufficientHistory("WALK", needed=300, found=100)
    jobs.end(job.id, JobEnd(state="failed", at=NOW, error=JobFailure.of(met)))

    error = jobs.status(job.id, NOW).failure()

    assert type(error) is InsufficientHistory
    assert error.message == met.message
    assert error.context == {"needed": 300, "found": 100, "job_id": job.id}


def test_a_failure_of_a_later_version_keeps_its_message(jobs: Jobs, executor: ListingExecutor) -> None:
    job = submit_training(REQUEST, jobs, executor, NOW, "1a2b3c4d")
    unknown = JobFailure.of(AppError("too new")).model_copy(update={"code": "not_known_yet"})
    jobs.end(job.id, JobEnd(state="failed", at=NOW, error=unknown))

    error = jobs.status(job.id, NOW).failure()

    assert type(error) is JobFailed
    assert error.message == "too new"


@pytest.fixture
def universes(tmp_path: Path) -> Universes:
    (tmp_path / "walks").mkdir()
    (tmp_path / "walks" / "AAA.csv").touch()
    return Universes(tmp_path)


def test_a_universe_that_exists_is_submitted(jobs: Jobs, executor: ListingExecutor, universes: Universes) -> None:
    request = TrainRequest(universe="walks")

    job = submit_training(request, jobs, executor, NOW, "1a2b3c4d", universes=universes)

    assert job.model_id == "walks-20240719-1a2b3c4d"
    assert executor.submitted == [job.id]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (TrainRequest(universe="unknown"), UniverseNotFound),
        (TrainRequest(universe="walks", model="gjr_garch"), InvalidRequest),
    ],
    ids=["unknown", "not pooled"],
)
def test_a_universe_that_cannot_be_trained_on_makes_no_job(
    jobs: Jobs,
    store: InMemoryArtifactStore,
    executor: ListingExecutor,
    universes: Universes,
    request_: TrainRequest,
    error: type[AppError],
) -> None:
    with pytest.raises(error):
        submit_training(request_, jobs, executor, NOW, "1a2b3c4d", "order-66", universes)

    assert store.list_keys("") == []


def test_a_machine_without_a_disk_says_what_a_universe_needs(jobs: Jobs, executor: ListingExecutor) -> None:
    with pytest.raises(TrainingUnavailable, match="needs a server with a disk"):
        submit_training(TrainRequest(universe="walks"), jobs, executor, NOW, "1a2b3c4d", universes=NO_UNIVERSES)


def test_a_retry_needs_the_universe_too(
    jobs: Jobs, executor: ListingExecutor, universes: Universes, tmp_path: Path
) -> None:
    first = submit_training(TrainRequest(universe="walks"), jobs, executor, NOW, "1a2b3c4d", universes=universes)
    jobs.end(first.id, JobEnd(state="lost", at=NOW))
    (tmp_path / "walks" / "AAA.csv").unlink()

    with pytest.raises(UniverseNotFound):
        retry_training(first.id, jobs, executor, NOW, "5e6f7a8b", universes)
