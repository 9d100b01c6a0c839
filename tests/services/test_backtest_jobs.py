"""Long backtests as jobs: which job a request gets, and which work is a job."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import pytest

from errors import BacktestCapacityExceeded, IdempotencyKeyReused, JobNotRetryable
from schemas.backtest import BacktestRequest, BacktestResponse
from schemas.job import Job
from services.backtest import PreparedBacktest, backtest, prepare_backtest
from services.backtest_jobs import AT_ONCE_S, leave_job, retry_backtest, submit_backtest
from services.jobs.executor import Submit
from services.jobs.job import Jobs, lost_end
from services.jobs.waiters import Waiters
from services.storage.registry import ModelRegistry
from services.training.submission import resume_waiting
from services.training.train import TrainedModel
from services.training.universe import NO_UNIVERSES
from services.training.work import WorkerContext, run_training
from tests.fakes import FakePriceSource, InMemoryArtifactStore, walk_history
from tests.services.analysis.conftest import NOW

REQUEST = BacktestRequest(horizon=2, stride=10)
PRICES = FakePriceSource(walk_history())


class Lane:
    """Remembers the jobs that were submitted; refuses when it is full."""

    name = "lane"

    def __init__(self) -> None:
        self.submitted: list[str] = []
        self.full = False

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        if self.full:
            raise BacktestCapacityExceeded("full")
        yield self.submitted.append

    def close(self) -> None:
        pass


class Server:
    """One process that submits backtests; several share a store."""

    def __init__(self, registry: ModelRegistry, store: InMemoryArtifactStore) -> None:
        self.registry, self.jobs = registry, Jobs(store)
        self.lane, self.waiters = Lane(), Waiters()
        self.n_tokens = 0

    def prepared(self, request: BacktestRequest = REQUEST, prices: FakePriceSource = PRICES) -> PreparedBacktest:
        (model_id,) = self.registry.ids()
        return prepare_backtest(model_id, request, self.registry, prices, NOW)

    def submit(
        self, request: BacktestRequest = REQUEST, key: str | None = None, prices: FakePriceSource = PRICES
    ) -> Job:
        self.n_tokens += 1
        token = f"{id(self) % 0xFFFF:04x}{self.n_tokens:04x}"
        return submit_backtest(self.prepared(request, prices), self.jobs, self.lane, self.waiters, NOW, token, key)

    def work(self, job: Job) -> Job:
        context = WorkerContext(self.jobs, PRICES, self.registry, lambda: NOW, NO_UNIVERSES)
        run_training(job.id, "w", context)
        return self.jobs.status(job.id, NOW)


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


@pytest.fixture
def registry(store: InMemoryArtifactStore, trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(store)
    registry.publish(trained.card, trained.files)
    return registry


@pytest.fixture
def server(registry: ModelRegistry, store: InMemoryArtifactStore) -> Server:
    return Server(registry, store)


def test_a_worker_ends_the_job_with_the_figures(server: Server) -> None:
    job = server.submit()
    waiting = (job.kind, job.state, server.lane.submitted)

    ended = server.work(job)

    assert waiting == ("backtest", "queued", [job.id])
    assert isinstance(ended.result, BacktestResponse)
    assert ended.result == backtest(job.model_id, REQUEST, server.registry, PRICES, NOW)
    assert ended.progress is not None
    assert ended.progress.share == 1.0


def test_callers_of_one_process_share_a_job_and_the_last_one_ends_it(server: Server) -> None:
    first, second = server.submit(), server.submit()
    leave_job(first.id, server.jobs, server.waiters, NOW)
    between = server.jobs.status(first.id, NOW).state

    leave_job(first.id, server.jobs, server.waiters, NOW)

    assert (first.id, between) == (second.id, "queued")
    assert server.jobs.status(first.id, NOW).state == "cancelled"
    assert server.submit().id != first.id


def test_an_unfinished_job_of_another_process_is_not_shared_and_a_finished_one_is(
    server: Server, registry: ModelRegistry, store: InMemoryArtifactStore
) -> None:
    other = Server(registry, store)
    job = server.submit()
    apart = other.submit()

    for one in (job, apart):
        server.work(one)

    assert apart.id != job.id
    assert other.submit().id == server.submit().id == apart.id
    assert other.submit().state == "succeeded"


def test_other_requests_prices_or_models_are_other_jobs(server: Server) -> None:
    prepared = server.prepared()
    corrected = walk_history()
    bars = corrected.series.bars.copy()
    bars[10, 3] *= 1.0001
    corrected = dataclasses.replace(corrected, series=dataclasses.replace(corrected.series, bars=bars))
    others = (
        server.prepared(REQUEST.model_copy(update={"horizon": 3})),
        server.prepared(prices=FakePriceSource(corrected)),
        dataclasses.replace(prepared, card=prepared.card.model_copy(update={"model_id": "another"})),
    )

    assert prepared.digest == server.prepared().digest
    assert len({prepared.digest, *(one.digest for one in others)}) == 4


@pytest.mark.parametrize("key", [None, "mine"])
def test_a_job_that_did_not_succeed_is_not_found_again(server: Server, key: str | None) -> None:
    job = server.submit(key=key)
    server.jobs.end(job.id, lost_end(NOW, "the worker died"))

    again = server.submit(key=key)

    assert (again.state, again.id == job.id) == ("queued", False)
    assert server.submit(key=key).id == again.id


def test_a_key_is_one_job_of_one_request(server: Server) -> None:
    job = server.submit(key="mine")

    assert server.submit(key="mine").id == job.id
    assert server.submit(key="another").id != job.id
    with pytest.raises(IdempotencyKeyReused):
        server.submit(REQUEST.model_copy(update={"horizon": 3}), key="mine")


def test_a_full_lane_refuses_and_leaves_no_job(server: Server) -> None:
    server.lane.full = True

    with pytest.raises(BacktestCapacityExceeded):
        server.submit()

    assert server.jobs.page(10, None, NOW).jobs == ()
    server.lane.full = False
    assert server.submit().state == "queued"


def test_only_an_ended_job_without_a_result_is_retried(server: Server) -> None:
    job = server.submit()
    with pytest.raises(JobNotRetryable):
        retry_backtest(job, server.jobs, server.lane, NOW, "0000000a")
    cancelled = server.jobs.cancel(job.id, NOW)

    again = retry_backtest(cancelled, server.jobs, server.lane, NOW, "0000000b")

    assert (again.retry_of, again.request, again.kind) == (job.id, job.request, "backtest")


def test_each_lane_resumes_its_own_kind(server: Server) -> None:
    job, lanes = server.submit(), {"training": Lane(), "backtest": Lane()}

    resume_waiting(server.jobs, lanes["training"], NOW, "training")
    resume_waiting(server.jobs, lanes["backtest"], NOW, "backtest")

    assert {kind: lane.submitted for kind, lane in lanes.items()} == {"training": [], "backtest": [job.id]}


def test_a_backtest_that_a_cancellation_reaches_ends_as_cancelled(server: Server) -> None:
    job = server.submit()
    assert server.jobs.claim(server.jobs.spec(job.id), "w", NOW)
    server.jobs.cancel(job.id, NOW)

    assert server.jobs.status(job.id, NOW + timedelta(seconds=1)).cancel_requested
    assert server.submit().id != job.id


def test_refits_and_many_origins_are_jobs(server: Server) -> None:
    short = server.prepared()
    refitting = server.prepared(BacktestRequest(refit_every=60))
    config = dataclasses.replace(short.data.config, origins=np.arange(100, 5000), horizon=30)
    long = dataclasses.replace(short, data=dataclasses.replace(short.data, config=config))

    assert short.seconds < AT_ONCE_S < min(refitting.seconds, long.seconds)
