"""A run by real processes on a folder: workers that fail, one that is killed, a cancellation and a resumption."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from bootstrap import Runtime
from config import Settings
from schemas.run import Run, RunRequest
from services.runs.pieces import Piece
from services.runs.submission import resume_run, start_run
from tests.fakes import walk_history, write_prices

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0  # far longer than any of it takes
CANCEL_WITHIN_S = 30.0  # a busy machine may need seconds to start a process that then stops at once
TICKERS = ("NOPE", "A", "B", "SHORT")

FoundT = TypeVar("FoundT")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    prices = tmp_path / "prices"
    prices.mkdir()
    for seed, ticker in enumerate("AB"):
        write_prices(prices, walk_history(ticker, n_sessions=430, seed=seed))
    write_prices(prices, walk_history("SHORT", n_sessions=60))
    runtime = Runtime.from_settings(
        Settings(_env_file=None, data_dir=tmp_path / "var", price_source="csv", price_dir=prices, run_workers=1)
    )
    try:
        yield runtime
    finally:
        runtime.run_executor.close()


def until(found: Callable[[], FoundT | None]) -> FoundT:
    deadline = time.monotonic() + PATIENCE_S
    while (result := found()) is None:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)
    return result


def ended(runtime: Runtime, run_id: str) -> Run:
    def look() -> Run | None:
        run = runtime.runs.status(run_id, runtime.clock())
        return None if run.ended_at is None else run

    return until(look)


def worker_in_work(runtime: Runtime, run_id: str, ticker: str) -> tuple[int, str]:
    """Process id and name of the worker that works on the ticker."""

    def look() -> tuple[int, str] | None:
        for chunk in runtime.runs.round_view(Piece(run_id, 0)).chunks.values():
            if chunk.current == ticker and chunk.worker is not None:
                return int(chunk.worker.split(":")[1]), chunk.worker
        return None

    return until(look)


def cards(runtime: Runtime) -> dict[str, bytes]:
    store = runtime.store
    return {key: store.get(key) for key in store.list_keys("models/") if key.endswith("metadata.json")}


def test_a_run_survives_a_killed_worker_and_resumes_after_a_cancellation(runtime: Runtime) -> None:
    request = RunRequest.model_validate(
        {"action": "train", "training": {"model": "ewma", "sequence_length": 20}, "tickers": TICKERS}
    )
    now = runtime.clock()
    run = start_run(
        request, runtime.runs, runtime.run_executor, runtime.registry, runtime.run_universes, now, "0000000a",
        engine=runtime.run_engine, n_workers=1, jobs=runtime.jobs,
    )  # fmt: skip

    pid, name = worker_in_work(runtime, run.id, "A")
    os.kill(pid, signal.SIGKILL)
    until(lambda: runtime.runs.status(run.id, runtime.clock()).counts.succeeded or None)
    asked = time.monotonic()
    runtime.runs.cancel(run.id, runtime.clock())
    cancelled = ended(runtime, run.id)
    took_s = time.monotonic() - asked
    done = cards(runtime)
    resume_run(run.id, runtime.runs, runtime.run_executor, runtime.clock(), engine="local", n_workers=1)
    resumed = ended(runtime, run.id)
    until(lambda: runtime.store.exists(f"runs/results/{run.id}.csv") or None)  # stored once the run has ended

    assert cancelled.state == "cancelled"
    assert took_s < CANCEL_WITHIN_S
    killed = [one.reason for one in cancelled.lost_workers if one.worker == name]
    assert killed == ["the worker ended with exit code -9"]
    assert (resumed.state, resumed.counts.succeeded, resumed.counts.failed) == ("partial", 2, 2)
    assert {one.ticker: one.code for one in resumed.failures} == {
        "NOPE": "ticker_not_found",
        "SHORT": "insufficient_history",
    }
    assert cards(runtime).items() >= done.items()  # what was done is not done again
    assert len(cards(runtime)) == 2


def test_a_coordinator_that_dies_ends_its_run_as_lost_and_its_workers_stop(runtime: Runtime) -> None:
    run = start_run(
        RunRequest.model_validate({"action": "train", "training": {"model": "ewma"}, "tickers": ["A", "B"]}),
        runtime.runs, runtime.run_executor, runtime.registry, runtime.run_universes, runtime.clock(), "0000000b",
        engine=runtime.run_engine, n_workers=1, jobs=runtime.jobs,
    )  # fmt: skip

    coordinator = until(lambda: runtime.runs.round(Piece(run.id, 0)).worker)
    os.kill(int(coordinator.split(":")[1]), signal.SIGKILL)
    lost = ended(runtime, run.id)

    assert (lost.state, lost.reason) == ("lost", "the worker ended with exit code -9")
    assert lost.counts.lost + lost.counts.succeeded == 2
