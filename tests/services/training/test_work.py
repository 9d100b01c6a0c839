"""A worker's life and its bad days, with a real training of a random walk."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from errors import StoreUnavailable
from schemas.job import Job, JobEnd, JobSpec
from schemas.train import TrainRequest
from services.jobs import heartbeat
from services.jobs.job import Jobs
from services.prices.series import PriceHistory
from services.storage.registry import CARD, ModelRegistry
from services.storage.store import LocalArtifactStore
from services.training import work
from services.training.work import WorkerContext, run_training
from tests.fakes import FailingStore, FakePriceSource, InMemoryArtifactStore, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"
MODEL = "walk-20240719-1a2b3c4d"
REQUEST = TrainRequest(ticker="WALK", epochs=3, sequence_length=20, warm_start=False)


class CountingSource(FakePriceSource):
    """A price source that calls somebody before it answers."""

    def __init__(self, before: Callable[[], object]) -> None:
        super().__init__(walk_history())
        self._before = before

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        self._before()
        return super().history(ticker, now)


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


@pytest.fixture
def jobs(store: InMemoryArtifactStore) -> Jobs:
    return Jobs(store)


def place(
    jobs: Jobs, store: InMemoryArtifactStore, folder: Path, source: FakePriceSource | None = None
) -> WorkerContext:
    return WorkerContext(
        jobs=jobs,
        prices=source or FakePriceSource(walk_history()),
        registry=ModelRegistry(store),
        rescue=ModelRegistry(LocalArtifactStore(folder)),
        clock=lambda: NOW,
    )


def ordered(jobs: Jobs, request: TrainRequest = REQUEST) -> None:
    jobs.add(JobSpec(id=JOB, created_at=NOW, claim_deadline=NOW + timedelta(hours=1), model_id=MODEL, request=request))


def status(jobs: Jobs) -> Job:
    return jobs.status(JOB, NOW)


def test_a_job_ends_with_its_model_and_its_losses(jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path) -> None:
    ordered(jobs)

    run_training(JOB, "w1", place(jobs, store, tmp_path))

    job = status(jobs)
    assert (job.state, job.error) == ("succeeded", None)
    assert job.result is not None
    assert job.result.id == MODEL
    assert job.progress is not None
    assert job.progress.validation_losses == ModelRegistry(store).card(MODEL).training.validation_losses


def test_the_second_worker_leaves_the_job_alone(jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path) -> None:
    ordered(jobs)
    jobs.claim(JOB, "w1", NOW)

    assert run_training(JOB, "w2", place(jobs, store, tmp_path)) is None
    assert status(jobs).state == "running"


def test_a_failure_is_told_as_the_caller_would_have_met_it(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path
) -> None:
    ordered(jobs, TrainRequest(ticker="NOPE"))

    run_training(JOB, "w1", place(jobs, store, tmp_path))

    job = status(jobs)
    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.status) == ("ticker_not_found", 404)


def test_a_mistake_of_ours_ends_the_job_and_tells_nothing_internal(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise RuntimeError("the secret is hunter2")

    ordered(jobs)

    run_training(JOB, "w1", place(jobs, store, tmp_path, CountingSource(break_down)))

    job = status(jobs)
    assert job.error is not None
    assert (job.state, job.error.code) == ("failed", "internal")
    assert "hunter2" not in job.error.detail
    assert "hunter2" in caplog.text


def test_a_job_cancelled_while_it_runs_leaves_no_model(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path
) -> None:
    ordered(jobs)
    source = CountingSource(lambda: jobs.cancel(JOB, NOW))

    run_training(JOB, "w1", place(jobs, store, tmp_path, source))

    assert status(jobs).state == "cancelled"
    assert store.list_keys("models/") == []


def test_a_fit_that_is_cancelled_stops_before_its_epochs_are_done(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    ordered(jobs, REQUEST.model_copy(update={"epochs": 1000, "patience": 100}))
    source = CountingSource(lambda: jobs.cancel(JOB, NOW))
    started = time.monotonic()

    run_training(JOB, "w1", place(jobs, store, tmp_path, source))

    job = status(jobs)
    assert job.state == "cancelled"
    assert job.progress is not None
    assert job.progress.epoch < 1000
    assert time.monotonic() - started < 60


def test_a_worker_that_was_given_up_withdraws_its_model(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path
) -> None:
    class GivenUp(InMemoryArtifactStore):
        """Somebody declares the job lost at the moment the card is written."""

        def put(self, key: str, data: bytes) -> None:
            super().put(key, data)
            if key.endswith(f"/{CARD}"):
                jobs.end(JOB, JobEnd(state="lost", at=NOW))

    ordered(jobs)
    models = GivenUp()

    run_training(JOB, "w1", place(jobs, models, tmp_path))

    assert status(jobs).state == "lost"
    assert models.list_keys("models/") == []


def test_a_store_that_refuses_the_card_fails_the_job_and_says_where_the_model_is_kept(
    jobs: Jobs, tmp_path: Path
) -> None:
    ordered(jobs)

    run_training(JOB, "w1", place(jobs, FailingStore(), tmp_path))

    job = status(jobs)
    assert job.error is not None
    assert (job.state, job.error.code) == ("failed", "store_unavailable")
    assert job.error.context["kept_at"] == f"rescued/models/{MODEL}"
    assert ModelRegistry(LocalArtifactStore(tmp_path)).ids() == [MODEL]


def test_an_end_that_the_store_does_not_take_at_first_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hiccup(InMemoryArtifactStore):
        """Fails twice to take the end of the job."""

        n_failures = 2

        def create(self, key: str, data: bytes) -> bool:
            if key.endswith("/end.json") and self.n_failures:
                self.n_failures -= 1
                raise StoreUnavailable("away for a moment")
            return super().create(key, data)

    monkeypatch.setattr(work._tell.retry, "wait", lambda _: 0.0)
    store = Hiccup()
    jobs = Jobs(store)
    ordered(jobs, TrainRequest(ticker="NOPE"))

    run_training(JOB, "w1", place(jobs, store, tmp_path))

    assert status(jobs).state == "failed"


def test_time_that_ends_in_the_first_epoch_still_gives_a_calibrated_model(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path
) -> None:
    ordered(jobs)

    run_training(JOB, "w1", place(jobs, store, tmp_path), fit_until=time.monotonic())

    card = ModelRegistry(store).card(MODEL)
    assert status(jobs).state == "succeeded"
    assert (card.training.stopped_by, card.training.best_epoch) == ("max_seconds", 0)
    assert min(card.n_calibration) > 0
