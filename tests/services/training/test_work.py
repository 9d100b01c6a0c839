"""The life of a worker and what can go wrong, with a real training of a random walk."""

import math
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from tenacity import stop_after_attempt

from errors import AppError, StoreUnavailable, TickerNotFound
from models.fitting import FitProgress
from schemas.job import Job, JobEnd, JobFailure, JobSpec, Progress
from schemas.train import TrainRequest, TrainResult
from services.jobs import heartbeat
from services.jobs.job import Jobs
from services.prices.series import PriceHistory
from services.storage.registry import CARD, ModelRegistry
from services.training import work
from services.training.checkpoints import Checkpoints
from services.training.submission import retry_training
from services.training.universe import NO_UNIVERSES, Universes
from services.training.work import WorkerContext, run_training
from tests.fakes import (
    FailingStore,
    FakePriceSource,
    InMemoryArtifactStore,
    ListingExecutor,
    UnreliableStore,
    job_spec,
    walk_history,
    write_prices,
)

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
JOB = "20240719t220000-1a2b3c4d"
MODEL = "walk-20240719-1a2b3c4d"
REQUEST = TrainRequest(ticker="WALK", epochs=3, sequence_length=20, warm_start=False)
QUICK = TrainRequest(ticker="WALK", model="ewma")


class CallingSource(FakePriceSource):
    """A price source that calls a function before it answers."""

    def __init__(self, before: Callable[[], object]) -> None:
        super().__init__(walk_history())
        self._before = before

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        self._before()
        return super().history(ticker, now)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))


def train(
    jobs: Jobs,
    models: InMemoryArtifactStore,
    request: TrainRequest = QUICK,
    prices: FakePriceSource | None = None,
    seconds_left: float = math.inf,
) -> Job:
    """The job after a worker has trained it."""
    jobs.add(JobSpec(id=JOB, created_at=NOW, claim_deadline=NOW + timedelta(hours=1), model_id=MODEL, request=request))
    source = prices or FakePriceSource(walk_history())
    run_training(JOB, "w1", WorkerContext(jobs, source, ModelRegistry(models), lambda: NOW, NO_UNIVERSES), seconds_left)
    return jobs.status(JOB, NOW)


def test_a_job_ends_with_its_model_and_its_losses(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    job = train(jobs, store, REQUEST)

    assert (job.state, job.error) == ("succeeded", None)
    assert isinstance(job.result, TrainResult)
    assert job.result.id == MODEL
    assert job.progress is not None
    assert job.progress.validation_losses == ModelRegistry(store).card(MODEL).training.validation_losses


def test_a_job_that_is_claimed_already_is_left_alone(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    second = WorkerContext(jobs, FakePriceSource(walk_history()), ModelRegistry(store), lambda: NOW, NO_UNIVERSES)
    ends: list[JobEnd | None] = []

    train(jobs, store, prices=CallingSource(lambda: ends.append(run_training(JOB, "w2", second))))

    assert ends == [None]


def test_of_a_job_the_spec_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    class Recording(InMemoryArtifactStore):
        def get(self, key: str) -> bytes:
            read.append(key)
            return super().get(key)

    store = Recording()
    monkeypatch.setattr(Jobs, "status", lambda *_: None)

    train(Jobs(store), store)

    assert read.count(f"jobs/{JOB}/spec.json") == 1


def test_an_error_ends_the_job_as_the_caller_would_have_met_it(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    job = train(jobs, store, TrainRequest(ticker="NOPE"))

    assert job.state == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.status) == ("ticker_not_found", 404)


def test_no_signal_interrupts_a_job_whose_end_is_formed_and_stored(
    jobs: Jobs, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    working, ending, described, ended = [], [], JobFailure.of, jobs.end

    def describe(error: AppError) -> JobFailure:
        ending.append(signal.getsignal(signal.SIGUSR1))
        return described(error)

    def end(job_id: str, end: JobEnd) -> bool:
        ending.append(signal.getsignal(signal.SIGUSR1))
        return ended(job_id, end)

    def fail() -> None:
        working.append(signal.getsignal(signal.SIGUSR1))
        raise TickerNotFound("no such ticker")

    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(JobFailure, "of", describe)
    monkeypatch.setattr(jobs, "end", end)

    job = train(jobs, store, prices=CallingSource(fail))

    assert job.state == "failed"
    assert working != [before]
    assert ending == [before, before]


def test_a_first_heartbeat_that_is_not_stored_does_not_fail_the_job(
    jobs: Jobs, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported, failures = jobs.report, [StoreUnavailable("the bucket is away")]

    def report(job_id: str, progress: Progress) -> None:
        if failures:
            raise failures.pop()
        reported(job_id, progress)

    monkeypatch.setattr(jobs, "report", report)

    assert train(jobs, store).state == "succeeded"
    assert failures == []


def test_an_unexpected_error_ends_the_job_and_only_the_log_has_its_message(
    jobs: Jobs, store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise RuntimeError("the secret is hunter2")

    job = train(jobs, store, prices=CallingSource(break_down))

    assert job.error is not None
    assert (job.state, job.error.code) == ("failed", AppError.code)
    assert "hunter2" not in job.error.detail
    assert "hunter2" in caplog.text


def test_a_worker_leaves_the_job_of_another_executor_and_says_so(
    jobs: Jobs, store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    jobs.add(job_spec(JOB, NOW, MODEL).model_copy(update={"executor": "trainer"}))
    context = WorkerContext(
        jobs,
        FakePriceSource(walk_history()),
        ModelRegistry(store),
        lambda: NOW,
        NO_UNIVERSES,
        executor="local-1a2b3c4d",
    )

    assert run_training(JOB, "w1", context) is None
    assert jobs.waiting() == [JOB]
    assert f"job {JOB} is for executor 'trainer', not for 'local-1a2b3c4d'; skipping" in caplog.text


def test_a_worker_takes_a_job_that_names_no_executor(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    jobs.add(job_spec(JOB, NOW, MODEL, model="ewma"))
    context = WorkerContext(
        jobs,
        FakePriceSource(walk_history()),
        ModelRegistry(store),
        lambda: NOW,
        NO_UNIVERSES,
        executor="local-1a2b3c4d",
    )

    end = run_training(JOB, "w1", context)

    assert end is not None
    assert end.state == "succeeded"


@pytest.mark.parametrize("epochs", [3, 1000])
def test_a_job_cancelled_while_it_runs_stops_early_and_leaves_no_model(
    jobs: Jobs, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    request = REQUEST.model_copy(update={"epochs": epochs, "patience": 100})

    job = train(jobs, store, request, CallingSource(lambda: jobs.cancel(JOB, NOW)))

    assert job.state == "cancelled"
    assert job.progress is not None
    assert job.progress.epoch < 1000
    assert store.list_keys("models/") == []


def test_a_worker_whose_job_was_declared_lost_withdraws_its_model(jobs: Jobs) -> None:
    class Lost(InMemoryArtifactStore):
        """The job is declared lost at the moment the card is written."""

        def put(self, key: str, data: bytes) -> None:
            super().put(key, data)
            if key.endswith(f"/{CARD}"):
                jobs.end(JOB, JobEnd(state="lost", at=NOW))

    models = Lost()

    assert train(jobs, models).state == "lost"
    assert models.list_keys("models/") == []


def test_a_worker_removes_what_a_crash_left_of_an_old_model(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    store.put("models/walk-20200102-0000000a/weights.safetensors", b"half a model")

    assert train(jobs, store).state == "succeeded"

    assert store.list_keys("models/walk-20200102-0000000a/") == []
    assert ModelRegistry(store).ids() == [MODEL]


def test_a_model_gets_the_name_that_its_request_asks_for(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    job = train(jobs, store, QUICK.model_copy(update={"alias": "mine"}))

    assert isinstance(job.result, TrainResult)
    assert (job.result.alias, job.result.warnings) == ("mine", ())
    assert ModelRegistry(store).id_of("mine") == MODEL


def test_a_job_that_fails_moves_no_name(jobs: Jobs, store: InMemoryArtifactStore) -> None:
    assert train(jobs, store, TrainRequest(ticker="NOPE", alias="mine")).state == "failed"
    assert ModelRegistry(store).alias("mine") is None


@pytest.mark.usefixtures("no_waiting")
def test_a_model_that_cannot_be_named_is_trained_all_the_same_and_the_result_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work._move_alias.retry, "stop", stop_after_attempt(2))
    store = UnreliableStore()
    store.refuses = lambda key: key.startswith("aliases/")

    job = train(Jobs(store), store, QUICK.model_copy(update={"alias": "mine"}))

    assert isinstance(job.result, TrainResult)
    assert (job.state, job.result.alias) == ("succeeded", None)
    assert "the model was not named 'mine': " in job.result.warnings[-1]


@pytest.mark.parametrize("suffix", [CARD, "/end.json"])
@pytest.mark.usefixtures("no_waiting")
def test_writes_that_a_store_refuses_for_a_moment_are_retried(suffix: str) -> None:
    store, refusals = UnreliableStore(), iter([True] * 3)
    store.refuses = lambda key: key.endswith(suffix) and next(refusals, False)

    assert train(Jobs(store), store).state == "succeeded"
    assert list(refusals) == []
    assert ModelRegistry(store).ids() == [MODEL]


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "done, but the answer is lost"])
@pytest.mark.parametrize(("call", "name"), [("get", "spec.json"), ("exists", "end.json"), ("create", "claim.json")])
@pytest.mark.usefixtures("no_waiting")
def test_a_worker_begins_although_the_store_fails_for_a_moment(
    jobs: Jobs, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch, call: str, name: str, refused: bool
) -> None:
    failures, real = iter([True] * 3), getattr(store, call)

    def failing(key: str, *data: bytes) -> object:
        fails = key.endswith(f"{JOB}/{name}") and next(failures, False)
        found = None if fails and refused else real(key, *data)
        if fails:
            raise StoreUnavailable("the store is down")
        return found

    monkeypatch.setattr(store, call, failing)

    assert train(jobs, store).state == "succeeded"
    assert list(failures) == []


@pytest.mark.usefixtures("no_waiting")
def test_a_job_cancelled_while_the_store_refuses_its_model_stops_retrying(jobs: Jobs) -> None:
    class Refusing(FailingStore):
        def put(self, key: str, data: bytes) -> None:
            jobs.cancel(JOB, NOW)
            super().put(key, data)

    assert train(jobs, Refusing()).state == "cancelled"


@pytest.mark.usefixtures("no_waiting")
def test_a_job_cancelled_between_its_files_and_its_card_leaves_none_of_them(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    class NoCard(InMemoryArtifactStore):
        def put(self, key: str, data: bytes) -> None:
            if key.endswith(f"/{CARD}"):
                jobs.cancel(JOB, NOW)
                raise StoreUnavailable("no card today")
            super().put(key, data)

    models = NoCard()

    assert train(jobs, models).state == "cancelled"
    assert models.list_keys("models/") == []
    assert "the model was not stored, next attempt in" in caplog.text
    assert "no card today" in caplog.text


def test_a_job_cancelled_while_its_model_is_evaluated_moves_no_alias_and_leaves_no_model(
    jobs: Jobs, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.05)
    registry = ModelRegistry(store)
    train(jobs, store)
    registry.move_alias("default", MODEL, NOW)
    calls: list[str] = []

    def cancels_at_the_second() -> None:
        calls.append("history")
        if len(calls) == 2:  # the first is for the training
            jobs.cancel(second, NOW)
            time.sleep(20)

    second = "20240719t220001-1a2b3c4d"
    jobs.add(job_spec(second, NOW, "walk-2", model="volatility_regression", promote_to="default"))
    source = CallingSource(cancels_at_the_second)

    run_training(second, "w1", WorkerContext(jobs, source, ModelRegistry(store), lambda: NOW, NO_UNIVERSES))

    job = jobs.status(second, NOW)
    assert job.progress is not None
    assert (job.state, job.progress.phase, len(calls)) == ("cancelled", "evaluate", 2)
    assert ModelRegistry(store).ids() == [MODEL]
    assert ModelRegistry(store).id_of("default") == MODEL


@pytest.mark.parametrize(("publish_within_s", "seconds_left"), [(0.0, math.inf), (600.0, 16.0)])
def test_a_model_that_cannot_be_stored_in_time_is_lost_and_the_error_says_so(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, publish_within_s: float, seconds_left: float
) -> None:
    monkeypatch.setattr(work, "PUBLISH_WITHIN_S", publish_within_s)
    started = time.monotonic()

    job = train(jobs, FailingStore(), seconds_left=seconds_left)

    assert job.error is not None
    assert (job.state, job.error.code) == ("failed", "store_unavailable")
    assert f"the trained model {MODEL!r} is lost: storing it failed for 0 minutes" in job.error.detail
    assert "AccessDenied" in job.error.detail
    assert time.monotonic() - started < 16


def test_time_that_ends_in_the_first_epoch_still_gives_a_calibrated_model(
    jobs: Jobs, store: InMemoryArtifactStore
) -> None:
    job = train(jobs, store, REQUEST, seconds_left=work.RESERVED_S + work.RESERVED_PER_TICKER_S)

    card = ModelRegistry(store).card(MODEL)
    assert job.state == "succeeded"
    assert (card.training.stopped_by, card.training.best_epoch) == ("max_seconds", 0)
    assert min(card.n_calibration) > 0


class Killed(BaseException):
    """Stands for the death of the worker: nothing may catch it."""


def test_the_retry_of_a_lost_training_of_a_universe_continues_to_the_same_weights(
    jobs: Jobs, store: InMemoryArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    universes, checkpoints = tmp_path / "universes", tmp_path / "checkpoints"
    (universes / "walks").mkdir(parents=True)
    for seed, ticker in enumerate(["AAA", "BBB", "^GSPC"]):
        write_prices(universes / "walks", walk_history(ticker, n_sessions=450, seed=seed))
    request = TrainRequest(universe="walks", sequence_length=20, epochs=2)
    registry, nowhere = ModelRegistry(store), FakePriceSource()
    context = WorkerContext(jobs, nowhere, registry, lambda: NOW, Universes(universes), Checkpoints(checkpoints))
    passes: list[float] = []
    died: list[float] = []
    record = heartbeat.Heartbeat.fit

    def dies_once(self: heartbeat.Heartbeat, done: FitProgress) -> None:
        passes.append(done.passes)
        record(self, done)
        if done.passes > 1 and not died:
            died.append(done.passes)
            raise Killed

    monkeypatch.setattr(heartbeat.Heartbeat, "fit", dies_once)

    def spec(token: str) -> JobSpec:
        return JobSpec(
            id=f"20240719t220000-{token}",
            created_at=NOW,
            claim_deadline=NOW + timedelta(hours=1),
            model_id=f"walks-20240719-{token}",
            request=request,
        )

    jobs.add(spec("1a2b3c4d"))
    with pytest.raises(Killed):
        run_training(JOB, "w1", context)
    kept = len([*checkpoints.iterdir()])
    later = NOW + timedelta(minutes=61)
    retried = retry_training(JOB, jobs, ListingExecutor(), later, "5e6f7a8b", Universes(universes))
    passes.clear()
    run_training(retried.id, "w2", context)
    continued_at = passes[0]
    jobs.add(spec("99999999"))
    run_training("20240719t220000-99999999", "w3", context)

    assert jobs.status(JOB, later).state == "lost"
    assert (kept, continued_at) == (1, 1.0)
    assert [*checkpoints.iterdir()] == []  # removed with the model's publication
    progress = jobs.status(retried.id, later).progress
    assert progress is not None
    assert (progress.epoch, progress.max_epochs, progress.share) == (2, 2, 1.0)
    continued, undisturbed = (registry.card(f"walks-20240719-{token}") for token in ("5e6f7a8b", "99999999"))
    assert continued.files == undisturbed.files  # checksums
    assert continued.training.validation_losses == undisturbed.training.validation_losses
