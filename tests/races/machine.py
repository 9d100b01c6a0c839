"""Races as a state machine of hypothesis: it chooses what begins, who runs next, and who dies."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from services.training.train import TrainedModel, train_model
from tests.fakes import EMPTY_REGISTRY, InMemoryArtifactStore
from tests.races.steps import Grant, SteppedStore, Writer, step_requests
from tests.races.world import ALIAS_NAMES, KEYS, PRICES, REQUEST, START, Inline, World
from tests.s3_servers import S3Server, ignore_if_match

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

N_WRITERS = 3
N_TARGETS = 3  # models that writers quarrel over
CHECK_EVERY = {"memory": 1, "local": 5}  # steps; of a server 20: a check reads all there is
OpenStore = Callable[[ExitStack], tuple[ArtifactStore, ArtifactStore]]
"""A new store, as the checks see it and as the writers do."""

_numbers = st.integers(0, 1_000_000)


def opener(kind: str, server: S3Server | None = None) -> OpenStore:
    """How to open a new store of this kind: memory, local, s3, or s3 as if the server ignored If-Match."""

    clients: list[S3Client] = []

    def open_store(stack: ExitStack) -> tuple[ArtifactStore, ArtifactStore]:
        if kind == "memory":
            memory = InMemoryArtifactStore()
            return memory, SteppedStore(memory)
        if kind == "local":
            folder = tempfile.mkdtemp(prefix="races-")
            stack.callback(shutil.rmtree, folder)
            local = LocalArtifactStore(Path(folder))
            return local, SteppedStore(local)
        assert server is not None
        prefix = f"races/{uuid.uuid4().hex}"
        seen, stepped = (S3ArtifactStore(server.bucket, server.endpoint_url, prefix=prefix) for _ in range(2))
        if not clients:
            clients.extend([seen._s3(), stepped._s3()])
            step_requests(clients[1].meta.events)
            if kind == "ignoring":
                ignore_if_match(stepped)
        seen._client, stepped._client = clients  # building one for each race takes longer than the race
        return seen, stepped

    return open_store


@contextmanager
def without_threads_and_waiting() -> Iterator[None]:
    """No pools of threads in the registry, and no waiting before another attempt: the order of steps decides."""
    with (
        patch("services.storage.registry.ThreadPoolExecutor", Inline),
        patch("services.storage.alias_moves.ThreadPoolExecutor", Inline),
        patch("tenacity.nap.time.sleep", lambda _: None),
    ):
        yield


def small_model() -> TrainedModel:
    """A real model that is made and loaded in milliseconds."""
    return train_model(REQUEST, PRICES, EMPTY_REGISTRY, "walk-20240719-00000000", START, lambda _: None)


class Race(RuleBasedStateMachine):
    """Three writers on one store; set ``open_store`` and ``model`` in a subclass."""

    open_store: OpenStore
    model: TrainedModel
    check_every = 1
    total_steps = 0  # of all races: calls of the store that a writer was allowed

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._stack.enter_context(without_threads_and_waiting())
        store, stepped = type(self).open_store(self._stack)
        self.world = World(store, stepped, type(self).model)
        self.writers: list[Writer | None] = [None] * N_WRITERS

    @precondition(lambda self: None in self.writers)
    @rule(
        number=_numbers,
        what=st.sampled_from(["publish", "publish", "move", "move", "read", "load", "delete", "clean"]),
        alias=st.sampled_from(ALIAS_NAMES),
        flag=st.booleans(),
    )
    def begin_with_models(self, number: int, what: str, alias: str, flag: bool) -> None:
        world = self.world
        if what == "publish" or not world.models:
            self._begin(world.publish())
            return
        newest = world.models[-N_TARGETS:]
        model_id = newest[number % len(newest)]
        match what:
            case "move":
                self._begin(world.move(alias, model_id, from_current=flag))
            case "read":
                self._begin(world.read(alias))
            case "load":
                self._begin(world.load(alias if flag else model_id))
            case "delete":
                self._begin(world.delete(model_id))
            case _:
                self._begin(world.remove_leftovers())

    @precondition(lambda self: None in self.writers)
    @rule(
        number=_numbers,
        what=st.sampled_from(["submit", *["work"] * 4, "cancel", "look", "list", "retry"]),
        key=st.sampled_from(KEYS),
        flag=st.booleans(),
    )
    def begin_with_jobs(self, number: int, what: str, key: str | None, flag: bool) -> None:
        world = self.world
        if what == "submit" or not world.jobs:
            self._begin(world.submit(key, refused=flag and number % 4 == 0))
            return
        job_id = world.jobs[-1 - number % len(world.jobs)]  # mostly the newest: small numbers are drawn more often
        match what:
            case "work":
                self._begin(world.work_on(job_id))
            case "cancel":
                self._begin(world.cancel(job_id))
            case "look":
                self._begin(world.look_at(job_id))
            case "list":
                self._begin(world.list_jobs())
            case _:
                self._begin(world.retry(job_id))

    @precondition(lambda self: None in self.writers)
    @rule(origin=st.integers(0, 5), scores=st.booleans())
    def begin_with_forecasts(self, origin: int, scores: bool) -> None:
        self._begin(self.world.score() if scores else self.world.log_forecast(origin))

    @precondition(lambda self: any(self.writers))
    @rule(number=_numbers, n_calls=st.integers(1, 12))
    def run(self, number: int, n_calls: int) -> None:
        writer = self._one_at_work(number)
        for _ in range(n_calls):
            self._step(writer, "go")

    @precondition(lambda self: any(self.writers))
    @rule(number=_numbers, grant=st.sampled_from(["die before", "die after"]))
    def crash(self, number: int, grant: Grant) -> None:
        self._step(self._one_at_work(number), grant)

    @rule(number=_numbers)
    def wait(self, number: int) -> None:
        """Jobs of workers that died, or are slow, are lost after a while; mostly it is too short for that."""
        self.world.now += timedelta(minutes=90 if number % 16 == 11 else 1)

    @invariant()
    def nothing_is_half_done(self) -> None:
        if self.world.n_steps % self.check_every == 0:
            self.world.check()

    def teardown(self) -> None:
        try:
            while any(self.writers):
                for writer in range(N_WRITERS):
                    self._step(writer, "go")
            self.world.check_end()
        finally:
            self._stack.close()

    def _one_at_work(self, number: int) -> int:
        at_work = [place for place, writer in enumerate(self.writers) if writer is not None]
        return at_work[number % len(at_work)]

    def _begin(self, writer: Writer) -> None:
        free = self.writers.index(None)
        self.writers[free] = None if writer.has_ended else writer

    def _step(self, number: int, grant: Grant) -> None:
        writer = self.writers[number]
        if writer is None:
            return
        self.world.n_steps += 1
        Race.total_steps += 1
        try:
            writer.step(grant)
        finally:
            if writer.has_ended:
                self.writers[number] = None


def race_on(kind: str, model: TrainedModel, server: S3Server | None = None) -> type[Race]:
    """The state machine on new stores of one kind."""
    return type(
        "Race",
        (Race,),
        {
            "open_store": staticmethod(opener(kind, server)),
            "model": model,
            "check_every": CHECK_EVERY.get(kind, 20),
        },
    )
