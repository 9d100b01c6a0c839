"""What the writers of a race do, and what must hold whatever they did and wherever they died."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import count, pairwise
from math import inf
from typing import Any

from errors import TrainerUnavailable
from schemas.alias import Alias, AliasRecord
from schemas.card import ModelCard
from schemas.job import Job, JobEnd, Progress
from schemas.realised import SessionScores
from schemas.train import TrainRequest
from services.jobs.executor import Submit
from services.jobs.job import LOST_AFTER_S, Jobs
from services.monitoring.forecast_log import read_record, record_key, recorded
from services.monitoring.scoring import score_due, scores_key
from services.prices.calendars import sessions_between
from services.prices.exchanges import NEW_YORK
from services.storage.cards import read_card
from services.storage.documents import document_keys, read_document, read_updated
from services.storage.registry import ALIASES, CARD, ModelRegistry, model_key
from services.storage.store import ArtifactStore
from services.training.submission import retry_training, submit_training
from services.training.train import TrainedModel
from tests.fakes import FakePriceSource, ManualClock, forecast_record, history_of, random_walk
from tests.races.steps import Writer

ALIAS_NAMES = ("default", "champion", "ticker/AAPL")
KEYS = (None, "one", "two")
START = datetime(2024, 7, 19, 22, tzinfo=UTC)
REQUEST = TrainRequest(ticker="WALK", model="persistence")
_SESSIONS = sessions_between(NEW_YORK, START.date() - timedelta(days=800), START.date())
SESSIONS: Sequence[date] = _SESSIONS[-8:].tolist()
PRICES = FakePriceSource(history_of(random_walk(len(_SESSIONS), 0), sessions=_SESSIONS))
LATER = timedelta(days=30)  # after all that crashed is given up, and nothing is under way


class Inline:
    """Stands in for the thread pools of the registry, whose threads would run outside the steps."""

    def __init__(self, _: int | None = None) -> None: ...

    def __enter__(self) -> "Inline":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, call: Callable[..., Any], *given: Any) -> Iterator[Any]:
        return map(call, *given)

    def submit(self, call: Callable[..., Any], *given: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(call(*given))
        return done


@dataclass(eq=False)
class Moving:
    """One move or read of an alias: when it began and ended, in steps of the race, and what it found."""

    began: int
    alias: str
    at: datetime | None = None  # the time that a move writes, unlike that of any other
    expected: str | None = None
    ended: int | None = None
    found: Alias | None = None


@dataclass(eq=False)
class World:
    """A store, seen by the writers through ``stepped`` and by the checks through ``store``.

    Attributes:
        model: copies of it are published.
        now: the time, which each operation moves on.
    """

    store: ArtifactStore
    stepped: ArtifactStore
    model: TrainedModel
    now: datetime = START
    n_steps: int = 0
    models: list[str] = field(default_factory=list)
    published: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    jobs: list[str] = field(default_factory=list)
    ends: dict[str, bytes] = field(default_factory=dict)
    won: dict[str, int] = field(default_factory=dict)
    scores: dict[str, bytes] = field(default_factory=dict)
    moves: list[Moving] = field(default_factory=list)
    reads: list[Moving] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    # What a writer does. Each builds its own registry and jobs, as a process does; the caches are tested elsewhere.

    def publish(self) -> Writer:
        model_id = self._new_model()
        return Writer(lambda: self._publish(model_id))

    def move(self, alias: str, model_id: str, *, from_current: bool) -> Writer:
        moving = Moving(self.n_steps, alias, self.tick())
        self.moves.append(moving)
        now = self.now

        def work() -> None:
            registry = self._registry()
            if from_current:
                moving.expected = registry.id_of(alias)
            moving.found = registry.move_alias(alias, model_id, now, expected=moving.expected)
            moving.ended = self.n_steps

        return Writer(work)

    def read(self, alias: str) -> Writer:
        reading = Moving(self.n_steps, alias)

        def work() -> None:
            reading.found = self._registry().alias(alias)
            reading.ended = self.n_steps
            self.reads.append(reading)

        return Writer(work)

    def load(self, name: str) -> Writer:
        def work() -> None:
            registry = self._registry()
            registry.load(registry.card(name))

        return Writer(work)

    def delete(self, model_id: str) -> Writer:
        def work() -> None:
            self._registry().delete(model_id)
            self.removed.add(model_id)

        return Writer(work)

    def remove_leftovers(self) -> Writer:
        return Writer(lambda: self._registry().remove_leftovers(self.now))

    def submit(self, key: str | None, *, refused: bool) -> Writer:
        now, token = self.tick(), f"{next(self.numbers):08x}"

        def work() -> None:
            job = submit_training(REQUEST, Jobs(self.stepped), _Executor(refused), now, token, key)
            self.jobs.append(job.id)

        return Writer(work)

    def retry(self, job_id: str) -> Writer:
        now, token = self.tick(), f"{next(self.numbers):08x}"

        def work() -> None:
            self.jobs.append(retry_training(job_id, Jobs(self.stepped), _Executor(False), now, token).id)

        return Writer(work)

    def work_on(self, job_id: str) -> Writer:
        """The calls of a worker, see ``services.training.work.run_training``, without the training."""
        now = self.tick()

        def work() -> None:
            jobs = Jobs(self.stepped)
            spec = jobs.spec(job_id)
            if not jobs.claim(spec, "worker", now):
                return
            self.models.append(spec.model_id)
            jobs.report(
                job_id, Progress(at=now, epoch=1, max_epochs=1, validation_losses=(), share=1, estimated_end=None)
            )
            if jobs.is_stopped(job_id):
                self._end(jobs, job_id, JobEnd(state="cancelled", at=now))
                return
            self._publish(spec.model_id)
            if not self._end(jobs, job_id, JobEnd(state="succeeded", at=now)):
                self._registry().delete(spec.model_id)
                self.removed.add(spec.model_id)

        return Writer(work)

    def cancel(self, job_id: str) -> Writer:
        return Writer(lambda: self._given(Jobs(self.stepped).cancel(job_id, self.tick())))

    def look_at(self, job_id: str) -> Writer:
        return Writer(lambda: self._given(Jobs(self.stepped).status(job_id, self.tick())))

    def list_jobs(self) -> Writer:
        def work() -> None:
            for job in Jobs(self.stepped).page(10, None, self.tick()).jobs:
                self._given(job)

        return Writer(work)

    def log_forecast(self, origin: int) -> Writer:
        record = forecast_record("WALK", SESSIONS[origin], SESSIONS[origin + 1 : origin + 3], last=100.0)
        return Writer(lambda: self.stepped.create(record_key(record), record.model_dump_json().encode()))

    def score(self) -> Writer:
        return Writer(lambda: score_due(self.stepped, PRICES, self.now))

    def _registry(self) -> ModelRegistry:
        return ModelRegistry(self.stepped)

    def _new_model(self) -> str:
        self.models.append(f"walk-20240719-{next(self.numbers):08x}")
        return self.models[-1]

    def _publish(self, model_id: str) -> None:
        self._registry().publish(self.model.card.model_copy(update={"model_id": model_id}), self.model.files)
        self.published.add(model_id)

    def _end(self, jobs: Jobs, job_id: str, end: JobEnd) -> bool:
        stands = jobs.end(job_id, end)
        self.won[job_id] = self.won.get(job_id, 0) + stands
        return stands

    def _given(self, job: Job) -> None:
        self.jobs.append(job.id)

    # What must hold after every step: no writer runs meanwhile, but several may be half-way.

    def check(self) -> None:
        keys = set(self.store.list_keys(""))
        self._check_aliases(keys)
        self._check_models(keys)
        self._check_jobs()
        self._check_once(self.ends, [key for key in keys if key.startswith("jobs/") and key.endswith("/end.json")])
        self._check_once(self.scores, [key for key in keys if key.startswith("scores/")])

    def _check_aliases(self, keys: set[str]) -> None:
        for key in document_keys(self.store, ALIASES):
            record = read_updated(self.store, key, AliasRecord)
            if record.model_id is not None:
                assert model_key(record.model_id, CARD) in keys, f"{record.alias} points to a missing model"

    def _check_models(self, keys: set[str]) -> None:
        for key in keys:
            if key.endswith(f"/{CARD}"):
                card = _card(self.store.get(key))
                for name, file in card.files.items():
                    content = self.store.get(model_key(card.model_id, name))
                    assert _sha256(content) == file.sha256, f"{name} of {card.model_id} is not whole"

    def _check_jobs(self) -> None:
        jobs = Jobs(self.store)
        for job_id in set(self.jobs):
            jobs.spec(job_id)  # raises JobNotFound

    def _check_once(self, known: dict[str, bytes], keys: Sequence[str]) -> None:
        """Each document that was seen is still there, and unchanged."""
        for key in keys:
            content = self.store.get(key)
            assert known.setdefault(key, content) == content, f"{key} was overwritten"
        assert known.keys() <= set(keys), "a document that is written once was deleted"

    # What must hold in the end: every writer has ended or died.

    def check_end(self) -> None:
        self.check()
        for alias in ALIAS_NAMES:
            self._check_history(alias)
        self._check_published()
        self._check_jobs_end()
        self._check_scores()
        self._check_leftovers()

    def _check_history(self, name: str) -> None:
        """Moves and reads are linearizable: the alias lists the moves in an order that their times allow."""
        alias = ModelRegistry(self.store).alias(name)
        listed = [] if alias is None else [alias.moved_at, *(move.moved_at for move in alias.earlier)][::-1]
        models = self._models_of(name)
        moves = {move.at: move for move in self.moves if move.alias == name and move.at is not None}
        assert len(set(listed)) == len(listed), "a move is listed twice"
        assert set(listed) <= moves.keys(), "a move that was never made is listed"
        done = {at for at, move in moves.items() if move.ended is not None}
        # before its first move, the alias of a ticker points where default points
        unmoved = {None, *(self._models_of("default") if name.startswith("ticker/") else ())}
        assert done <= set(listed), f"{name} has lost a move that was acknowledged"
        for position, at in enumerate(listed):
            for later in listed[position + 1 :]:
                ended = moves[later].ended
                assert ended is None or ended > moves[at].began, f"{name} lists moves in an impossible order"
            found = moves[at].found
            if found is not None:
                before = {models[position - 1]} if position else unmoved
                assert found.previous_model_id in before, f"{name} names another model than the one before"
                assert moves[at].expected in (None, found.previous_model_id), "it moved from another model"
        for read in (one for one in self.reads if one.alias == name):
            position = -1 if read.found is None else listed.index(read.found.moved_at)
            must = [listed.index(at) for at, move in moves.items() if at in done and _ended(move) <= read.began]
            assert position >= max(must, default=-1), f"a read of {name} missed a move that was acknowledged"
            assert position < 0 or moves[listed[position]].began < _ended(read), "a read saw a later move"
        done_reads = sorted((one for one in self.reads if one.alias == name), key=lambda one: one.began)
        for first, second in pairwise(done_reads):
            if first.found and first.ended is not None and first.ended <= second.began:
                assert second.found, "a read went back"
                assert listed.index(first.found.moved_at) <= listed.index(second.found.moved_at), "a read went back"

    def _models_of(self, name: str) -> list[str]:
        """The models that an alias has pointed to, oldest first."""
        alias = ModelRegistry(self.store).alias(name)
        return [] if alias is None else [alias.model_id, *(move.model_id for move in alias.earlier)][::-1]

    def _check_published(self) -> None:
        registry = ModelRegistry(self.store)
        ids = registry.ids()
        for model_id in ids:
            registry.load(registry.card(model_id))
        assert not self.removed & set(ids), "a model that was deleted is back"

    def _check_jobs_end(self) -> None:
        """Every job ends or can be declared lost, by its first end alone."""
        assert all(wins <= 1 for wins in self.won.values()), "two ends of a job counted"
        clock = ManualClock()
        jobs = Jobs(self.store, clock)
        found = {key.split("/")[1] for key in self.store.list_keys("jobs/") if key.endswith("/spec.json")}
        for job_id in found | set(self.jobs):
            for _ in range(2):  # a silence is one that the reader itself has seen
                job = jobs.status(job_id, self.now)
                clock.now += 2 * LOST_AFTER_S
            if job.ended_at is None:
                job = jobs.status(job_id, self.now + LATER)  # past the deadline of every claim
            assert job.ended_at is not None, f"job {job_id} never ends"

    def _check_scores(self) -> None:
        report = score_due(self.store, PRICES, START + LATER)
        assert not report.unscored
        again = score_due(self.store, PRICES, START + LATER)
        assert (again.n_sessions, again.n_pairs) == (0, 0)
        for key in recorded(self.store):
            last = read_record(self.store, key.key).steps[-1]  # with it, its record counts as finished
            read_document(self.store, scores_key("WALK", last.session), SessionScores)

    def _check_leftovers(self) -> None:
        registry = ModelRegistry(self.store)
        registry.remove_leftovers(START + LATER)
        whole = set(registry.ids())
        left = [key for key in self.store.list_keys("models/") if key.split("/")[1] not in whole]
        assert not left, f"never removed: {left}"
        gone = [
            key for key in self.store.list_keys("deletions/") if key[len("deletions/") : -len(".json")] not in whole
        ]
        assert not gone, f"never removed: {gone}"
        self.check()


def _ended(moving: Moving) -> float:
    return inf if moving.ended is None else moving.ended


@lru_cache(1000)
def _card(content: bytes) -> ModelCard:
    return read_card(content, "race")


@lru_cache(1000)
def _sha256(content: bytes) -> str:
    return sha256(content).hexdigest()


class _Executor:
    name = "race"

    def __init__(self, refuses: bool) -> None:
        self._refuses = refuses

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield self._submit

    def close(self) -> None: ...

    def _submit(self, job_id: str) -> None:
        if self._refuses:
            raise TrainerUnavailable("no trainer")
