from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from errors import (
    AppError,
    IdempotencyKeyReused,
    InsufficientHistory,
    InvalidRequest,
    JobFailed,
    JobNotRetryable,
    StoreUnavailable,
    TrainerUnavailable,
    TrainingCapacityExceeded,
    TrainingUnavailable,
    UniverseNotFound,
)
from schemas.job import Job, JobEnd, JobFailure, JobSpec
from schemas.train import TrainRequest
from services.jobs.executor import Submit
from services.jobs.job import START_WITHIN, Jobs
from services.training.submission import resume_waiting, retry_training, submit_training
from services.training.universe import NO_UNIVERSES, Universes
from tests.fakes import InMemoryArtifactStore, UnreliableStore, job_spec

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
REQUEST = TrainRequest(ticker="WALK")


class ListingExecutor:
    """Lists the jobs submitted to it; can be full or broken."""

    def __init__(self, room: int = 10, broken: AppError | None = None, name: str = "here") -> None:
        self.name = name
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


def test_a_job_without_room_is_not_stored_and_its_key_can_be_used_again(
    jobs: Jobs, store: InMemoryArtifactStore
) -> None:
    with pytest.raises(TrainingCapacityExceeded):
        submit_training(REQUEST, jobs, ListingExecutor(room=0), NOW, "1a2b3c4d", "order-66")

    assert store.list_keys("jobs/") == []
    later = ListingExecutor()
    job = submit_training(REQUEST, jobs, later, NOW, "99999999", "order-66")
    assert later.submitted == [job.id] == ["20240719t220000-1a2b3c4d"]


REFUSALS = [TrainerUnavailable("not there"), TrainingCapacityExceeded("busy", retry_after_s=30)]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["down", "throttled"])
def test_a_refused_job_ends_as_failed_with_the_reason_and_the_error_names_it(jobs: Jobs, refusal: AppError) -> None:
    with pytest.raises(type(refusal)) as refused:
        submit_training(REQUEST, jobs, ListingExecutor(broken=refusal), NOW, "1a2b3c4d", "order-66")

    job = jobs.status("20240719t220000-1a2b3c4d", NOW)
    assert refused.value.context == {"job_id": job.id, "job_url": f"/jobs/{job.id}"}
    assert (job.state, job.started_at) == ("failed", None)
    assert job.error is not None
    assert (job.error.code, job.error.retry_after_s) == (refusal.code, refusal.retry_after_s)


@pytest.mark.parametrize("refusal", REFUSALS, ids=["down", "throttled"])
def test_a_key_whose_jobs_were_refused_makes_a_new_job_and_then_only_that(jobs: Jobs, refusal: AppError) -> None:
    for token in ("1a2b3c4d", "2a2b3c4d", "3a2b3c4d"):
        with pytest.raises(type(refusal)):
            submit_training(REQUEST, jobs, ListingExecutor(broken=refusal), NOW, token, "order-66")
    later = ListingExecutor()

    job = submit_training(REQUEST, jobs, later, NOW, "99999999", "order-66")
    again = submit_training(REQUEST, jobs, later, NOW, "88888888", "order-66")

    assert later.submitted == [job.id] == ["20240719t220000-99999999"]
    assert again == job
    with pytest.raises(IdempotencyKeyReused):
        submit_training(TrainRequest(ticker="OTHER"), jobs, later, NOW, "77777777", "order-66")


def test_a_caller_that_was_given_the_job_before_it_was_refused_finds_it(jobs: Jobs) -> None:
    given: list[Job] = []

    class Throttled(ListingExecutor):
        def _submit(self, job_id: str) -> None:
            given.append(submit_training(REQUEST, jobs, ListingExecutor(), NOW, "99999999", "order-66"))
            raise TrainingCapacityExceeded("busy")

    with pytest.raises(TrainingCapacityExceeded):
        submit_training(REQUEST, jobs, Throttled(), NOW, "1a2b3c4d", "order-66")

    assert given[0].state == "queued"
    assert jobs.status(given[0].id, NOW).state == "failed"


def test_of_two_requests_with_one_key_the_one_that_stores_the_job_submits_it(jobs: Jobs) -> None:
    class Slow(Jobs):
        """Another request with the same key comes between the key and the job."""

        def add(self, spec: JobSpec) -> bool:
            submit_training(REQUEST, jobs, fast, NOW, "99999999", "order-66")
            return super().add(spec)

    fast, slow = ListingExecutor(), ListingExecutor(broken=TrainingCapacityExceeded("busy"))

    job = submit_training(REQUEST, Slow(jobs._store), slow, NOW, "1a2b3c4d", "order-66")

    assert (fast.submitted, slow.submitted) == ([job.id], [])
    assert job.state == "queued"


def test_a_job_that_was_stored_but_never_submitted_ends_at_its_deadline(jobs: Jobs) -> None:
    class Crash(BaseException): ...

    class Crashing(ListingExecutor):
        def _submit(self, job_id: str) -> None:
            raise Crash

    with pytest.raises(Crash):
        submit_training(REQUEST, jobs, Crashing(), NOW, "1a2b3c4d", "order-66")

    late = NOW + START_WITHIN + timedelta(seconds=1)
    assert submit_training(REQUEST, jobs, ListingExecutor(), late, "99999999", "order-66").state == "lost"
    assert jobs.waiting() == []


def test_a_submitted_job_that_cannot_be_read_is_returned_as_waiting() -> None:
    store = UnreliableStore()

    class Failing(ListingExecutor):
        def _submit(self, job_id: str) -> None:
            super()._submit(job_id)
            store.down = True

    job = submit_training(REQUEST, Jobs(store), Failing(), NOW, "1a2b3c4d")

    assert (job.id, job.state) == ("20240719t220000-1a2b3c4d", "queued")


def test_a_store_that_may_have_stored_the_job_is_answered_with_its_name() -> None:
    store = UnreliableStore()
    store.refuses = lambda key: key.endswith("/spec.json")

    with pytest.raises(StoreUnavailable) as refused:
        submit_training(REQUEST, Jobs(store), ListingExecutor(), NOW, "1a2b3c4d")

    assert refused.value.context["job_url"] == "/jobs/20240719t220000-1a2b3c4d"


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

    resume_waiting(jobs, executor, NOW)

    assert executor.submitted == waiting[:2]


def test_a_job_past_its_deadline_ends_rather_than_being_resumed(jobs: Jobs) -> None:
    late = submit_training(REQUEST, jobs, ListingExecutor(), NOW, "1a2b3c4d").id
    executor, after = ListingExecutor(), NOW + START_WITHIN + timedelta(seconds=1)

    resume_waiting(jobs, executor, after)

    assert executor.submitted == []
    assert late not in jobs.waiting()


def test_jobs_of_earlier_days_are_resumed_at_the_start_alone(jobs: Jobs) -> None:
    jobs.add(job_spec("20240701t220000-1a2b3c4d", NOW))
    recent = submit_training(REQUEST, jobs, ListingExecutor(), NOW, "1a2b3c4d").id
    at_start, later = ListingExecutor(), ListingExecutor()

    resume_waiting(jobs, at_start, NOW)
    resume_waiting(jobs, later, NOW, since=NOW - START_WITHIN)

    assert len(at_start.submitted) == 2
    assert later.submitted == [recent]


def test_only_the_executor_of_a_job_takes_it_up(jobs: Jobs) -> None:
    own = submit_training(REQUEST, jobs, ListingExecutor(), NOW, "1a2b3c4a").id
    submit_training(REQUEST, jobs, ListingExecutor(name="trainer"), NOW, "1a2b3c4b")
    old = job_spec("20240719t220000-1a2b3c4c", NOW)  # of a version that named no executor
    jobs.add(old)
    executor = ListingExecutor()

    resume_waiting(jobs, executor, NOW)

    assert executor.submitted == [own, old.id]


def test_a_job_of_another_executor_is_lost_for_whoever_looks_after_its_deadline(jobs: Jobs) -> None:
    job = submit_training(REQUEST, jobs, ListingExecutor(name="trainer"), NOW, "1a2b3c4d")

    assert jobs.status(job.id, NOW + START_WITHIN + timedelta(seconds=1)).state == "lost"


def test_a_waiting_job_that_cannot_be_read_or_started_does_not_keep_the_others_waiting(
    jobs: Jobs, store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = [submit_training(REQUEST, jobs, ListingExecutor(), NOW, f"1a2b3c4{n}").id for n in range(3)]
    store.put(f"jobs/{waiting[0]}/spec.json", b"{")

    class FailsOnce(ListingExecutor):
        def _submit(self, job_id: str) -> None:
            if job_id == waiting[1]:
                raise TrainerUnavailable("not there")
            super()._submit(job_id)

    executor = FailsOnce()
    resume_waiting(jobs, executor, NOW)

    assert executor.submitted == [waiting[2]]
    assert waiting[0] in caplog.text
    assert waiting[1] in caplog.text


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
