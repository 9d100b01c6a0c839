"""Runs on a real Ray node, in the environment that has Ray."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from errors import TrainerUnavailable
from services.jobs.ray import RayExecutor
from tests.processes import wait_until

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv/ray/bin/python"
WITHIN_S = 240.0


@pytest.mark.slow
def test_a_node_of_ray_does_a_run_and_a_lost_worker_is_replaced() -> None:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.relative_to(ROOT)} is not there: make ray")

    done = subprocess.run(
        [str(PYTHON), "-m", "tests.services.jobs.ray_run"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "partial, 2 succeeded, 1 failed, 1 lost worker"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(TrainerUnavailable, match="ray, which is not installed"):
        RayExecutor("auto", lambda settings, piece: None, b"{}", lambda piece, why: None)


class RayError(Exception):
    """As ``ray.exceptions.RayError``."""


class RayTaskError(RayError):
    """As ``ray.exceptions.RayTaskError``."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class FakeRay(SimpleNamespace):
    """A cluster whose tasks end when the test says so."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        super().__init__()
        self.connected: dict[str, Any] | None = None
        self.refuses: Exception | None = None
        self.limits: dict[str, int] = {}
        self.submitted: dict[str, Future[None]] = {}

    def init(self, **options: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.connected = options

    def shutdown(self) -> None:
        self.connected = None

    def remote(self, **limits: int) -> Callable[[Callable[..., None]], SimpleNamespace]:
        self.limits = limits

        def submit(settings: bytes, piece: str) -> Future[None]:
            assert settings == b"{}"
            self.submitted[piece] = Future()
            return self.submitted[piece]

        return lambda task: SimpleNamespace(remote=submit)

    def wait(
        self, references: list[Future[None]], num_returns: int, timeout: float
    ) -> tuple[list[Future[None]], list[Future[None]]]:
        assert num_returns == len(references)
        assert timeout > 0  # Ray refuses another
        done, running = wait(references, min(timeout, 0.05))
        return list(done), list(running)

    def get(self, reference: Future[None]) -> None:
        reference.result()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    before = signal.getsignal(signal.SIGTERM)
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setitem(sys.modules, "ray.exceptions", fake.exceptions)
    yield fake
    signal.signal(signal.SIGTERM, before)


Ends = queue.Queue[tuple[str, str | None]]


def executor_of(ends: Ends) -> RayExecutor:
    return RayExecutor("ray://there", lambda settings, piece: None, b"{}", lambda *end: ends.put(end))


def test_the_end_of_each_task_is_reported_with_what_was_lost(ray: FakeRay) -> None:
    ends: Ends = queue.Queue()
    executor = executor_of(ends)
    for piece in ("fine", "failed", "lost", "last"):
        with executor.slot() as submit:
            submit(piece)

    ray.submitted["fine"].set_result(None)
    ray.submitted["failed"].set_exception(RayTaskError(KeyError("x")))
    ray.submitted["lost"].set_exception(RayError("the node died"))

    assert sorted([ends.get(timeout=20) for _ in range(3)]) == [
        ("failed", "the worker failed: KeyError"),
        ("fine", None),
        ("lost", "Ray lost the worker: RayError"),
    ]
    ray.submitted["last"].set_result(None)
    assert ends.get(timeout=20) == ("last", None)
    assert ray.limits == {"num_cpus": 1, "max_retries": 0}  # a repeated task could not know what became of the first
    threading.Thread(target=executor.close, daemon=True).start()
    wait_until(lambda: ray.connected is None, 20.0, "the executor leaves the cluster")


def test_joining_a_cluster_changes_neither_the_logs_nor_the_signals_of_the_server(ray: FakeRay) -> None:
    before = signal.getsignal(signal.SIGTERM)

    executor = executor_of(queue.Queue())

    assert ray.connected is not None
    assert (ray.connected["address"], ray.connected["log_to_driver"]) == ("ray://there", False)
    assert not ray.connected["configure_logging"]
    assert signal.getsignal(signal.SIGTERM) is before
    executor.close()


@pytest.mark.parametrize("refusal", [ConnectionError("nothing listens"), ValueError("no such address")])
def test_a_cluster_out_of_reach_is_an_unavailable_trainer(ray: FakeRay, refusal: Exception) -> None:
    ray.refuses = refusal

    with pytest.raises(TrainerUnavailable, match="'ray://there' cannot be reached"):
        executor_of(queue.Queue())
