"""A cancelled job ends within seconds in every phase, in a real worker process, and leaves nothing of a model."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from queue import Queue
from typing import TextIO

import pytest

from schemas.job import Job, Progress
from services.jobs.job import Jobs
from services.prices.series import PriceHistory
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore
from services.training.universe import NO_UNIVERSES
from services.training.work import WorkerContext, run_training
from tests.fakes import FakePriceSource, job_spec, walk_history
from tests.forked_servers import ForkedServers
from tests.processes import wait_until

pytestmark = pytest.mark.slow

WITHIN_S = 30.0  # on a machine at rest, four from the request; what each phase here does takes minutes
LSTM: dict[str, object] = {
    "model": "return_lstm",
    "sequence_length": 20,
    "warm_start": False,
    "patience": 100,
    "max_seconds": 600,
}
QUICK = LSTM | {"epochs": 1}


@dataclass(frozen=True)
class Worker:
    """The worker process, and the store that it shares with this one."""

    store: LocalArtifactStore
    requests: TextIO
    free: "Queue[str]"

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.store)

    def start(self, number: int, slow: str, request: dict[str, object]) -> str:
        now = datetime.now(UTC)
        job_id = f"{now:%Y%m%dt%H%M%S}-{number:08x}"
        self.jobs.add(job_spec(job_id, now, f"walk-{number}", **request))
        self.requests.write(f"{slow} {job_id}\n")
        self.requests.flush()
        return job_id

    def status(self, job_id: str) -> Job:
        return self.jobs.status(job_id, datetime.now(UTC))

    def models(self) -> list[str]:
        return self.store.list_keys("models/")


@pytest.fixture(scope="module")
def worker(servers: ForkedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    data = tmp_path_factory.mktemp("data")
    free: Queue[str] = Queue()
    (given, requested), (answered, printed) = os.pipe(), os.pipe()
    with os.fdopen(given, "rb") as stdin, os.fdopen(printed, "wb") as stdout:
        process = servers.start_trainer(["tests/slow_worker.py", str(data)], stdin, stdout)

    def read() -> None:
        with os.fdopen(answered) as lines:
            for line in lines:
                free.put(line.strip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with os.fdopen(requested, "w") as requests:
        yield Worker(LocalArtifactStore(data), requests, free)
        process.kill()
        process.wait()
    reader.join()


def in_phase(phase: str, fit: int = 1, epoch: int = 0) -> Callable[[Progress], bool]:
    return lambda at: at.phase == phase and at.fit >= fit and at.epoch >= epoch


CASES: dict[str, tuple[str, dict[str, object], Callable[[Progress], bool]]] = {
    "fetch": ("fetch", QUICK, in_phase("fetch")),
    "fit": ("fit", LSTM | {"epochs": 1000}, in_phase("fit", epoch=1)),
    "refit": ("refit", LSTM | {"epochs": 5}, in_phase("fit", fit=2)),
    "calibrate": ("calibrate", QUICK, in_phase("calibrate")),
    "test": ("test", QUICK, in_phase("test")),
    "publish": ("publish", QUICK, in_phase("publish")),
    "boosting": ("fit", {"model": "gradient_boosting"}, in_phase("fit")),
    "garch": ("fit", {"model": "gjr_garch"}, in_phase("fit")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_job_that_is_cancelled_in_any_phase_ends_within_seconds(worker: Worker, case: str) -> None:
    slow, request, reached = CASES[case]
    job_id = worker.start([*CASES].index(case), slow, request)
    seen: list[float] = []

    def is_there() -> bool:
        progress = worker.status(job_id).progress
        seen.extend([] if progress is None else [progress.share])
        return progress is not None and reached(progress)

    wait_until(is_there, 120, f"phase of {case}")

    worker.jobs.cancel(job_id, datetime.now(UTC))
    began = time.monotonic()
    wait_until(lambda: worker.status(job_id).ended_at is not None, 60, "the end of the job")
    took_s = time.monotonic() - began

    assert worker.status(job_id).state == "cancelled"
    assert took_s < WITHIN_S
    assert seen == sorted(seen)
    assert worker.free.get(timeout=30) == job_id  # the process goes on: it may be that of a Lambda function
    assert worker.models() == []


def test_after_all_that_the_worker_trains_a_model(worker: Worker) -> None:
    job_id = worker.start(99, "nothing", QUICK)

    assert worker.free.get(timeout=120) == job_id
    job = worker.status(job_id)
    assert (job.state, job.error) == ("succeeded", None)
    assert job.progress is not None
    assert (job.progress.share, job.progress.phase) == (1.0, "publish")
    assert ModelRegistry(worker.store).card("walk-99").model_id == "walk-99"


def test_a_job_in_a_thread_ends_within_seconds_although_its_work_goes_on(tmp_path: Path) -> None:
    """Without a main thread to interrupt, as on the command line."""
    store, go, now = LocalArtifactStore(tmp_path), threading.Event(), datetime.now(UTC)
    jobs = Jobs(store)
    job_id = "20240719t220000-1a2b3c4d"

    class Waiting(FakePriceSource):
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            go.wait(60)
            return walk_history()

    jobs.add(job_spec(job_id, now, model="ewma"))
    context = WorkerContext(jobs, Waiting(), ModelRegistry(store), lambda: datetime.now(UTC), NO_UNIVERSES)
    thread = threading.Thread(target=run_training, args=(job_id, "w1", context))
    thread.start()
    wait_until(lambda: jobs.status(job_id, now).progress is not None, 10, "the first heartbeat")
    jobs.cancel(job_id, now)
    began = time.monotonic()

    wait_until(lambda: jobs.status(job_id, now).state == "cancelled", 30, "the end of the job")

    assert time.monotonic() - began < WITHIN_S
    go.set()
    thread.join(30)
    assert jobs.status(job_id, now).state == "cancelled"
    assert store.list_keys("models/") == []
