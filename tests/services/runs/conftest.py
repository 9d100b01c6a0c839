"""A run over random walks in this process: coordinator and workers one after the other, on a store in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from errors import StoreUnavailable
from schemas.run import Engine as EngineName
from schemas.run import Run, RunRequest, RunSpec
from services.jobs.executor import OnExit, Submit
from services.jobs.job import Jobs
from services.monitoring.forecast_log import ForecastLog
from services.prices.series import PriceSource
from services.runs.coordinate import coordinate
from services.runs.pieces import Piece
from services.runs.runs import Runs
from services.runs.submission import start_run
from services.runs.work import RunContext, work_chunk
from services.storage.registry import ModelRegistry
from services.storage.write_behind import WriteBehind
from services.training.universe import NO_UNIVERSES
from tests.fakes import FakePriceSource, InMemoryArtifactStore, ManualClock, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
EWMA = {"model": "ewma", "sequence_length": 20}


@dataclass
class Place:
    """A store, and engines that run pieces at once in this thread."""

    store: InMemoryArtifactStore = field(default_factory=InMemoryArtifactStore)
    monotonic: ManualClock = field(default_factory=ManualClock)
    prices: PriceSource = field(
        default_factory=lambda: FakePriceSource(
            *(walk_history(ticker, n_sessions=430, seed=seed) for seed, ticker in enumerate(("A", "B", "C", "D"))),
            walk_history("SHORT", n_sessions=60),
        )
    )
    now: datetime = NOW
    patch: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)
    before_chunk: Callable[[Piece], None] = lambda _: None
    name = "here"

    def __post_init__(self) -> None:
        self.runs = Runs(self.store, self.monotonic)
        self.registry = ModelRegistry(self.store)

    def context(self) -> RunContext:
        writer = WriteBehind()
        log = ForecastLog(self.store, writer)
        return RunContext(self.runs, ModelRegistry(self.store), log, writer, lambda: self.now)

    def work(self, piece: Piece, worker: str = "worker-1") -> None:
        if piece.chunk is None:
            coordinate(piece, worker, self.context(), lambda _: self.prices, self.engine)
        else:
            self.before_chunk(piece)
            work_chunk(piece, worker, self.context())

    @contextmanager
    def engine(self, _: RunSpec, on_exit: OnExit) -> Iterator["Engine"]:
        yield Engine(self, on_exit)

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        """As the executor of coordinators: takes every round, and begins none."""
        yield lambda _: None

    def close(self) -> None:
        pass

    def start(
        self,
        key: str | None = None,
        suffix: str = "0000000a",
        engine: EngineName = "local",
        n_workers: int = 1,
        **request: Any,
    ) -> Run:
        asked = RunRequest.model_validate(request)
        return start_run(
            asked,
            self.runs,
            self,
            self.registry,
            NO_UNIVERSES,
            self.now,
            suffix,
            engine=engine,
            n_workers=n_workers,
            jobs=Jobs(self.store),
            key=key,
        )

    def ended(self, run_id: str, round_: int = 0) -> Run:
        self.work(Piece(run_id, round_))
        return self.runs.status(run_id, self.now)


@dataclass
class Engine:
    """Does a chunk when it is submitted; what it raises counts as the death of the worker."""

    place: Place
    on_exit: OnExit
    name = "here"
    n_workers = 0

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield self._run

    def close(self) -> None:
        pass

    def _run(self, piece: str) -> None:
        self.n_workers += 1
        found = Piece.parse(piece)
        assert found is not None
        try:
            self.place.work(found, f"worker-{self.n_workers}")
        except (Killed, StoreUnavailable):
            self.on_exit(piece, "the worker ended with exit code -9")
        else:
            self.on_exit(piece, None)


class Killed(BaseException):
    """A worker dies where it is."""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(patch=monkeypatch)
