"""From a request to a run: its document, its first round, and a coordinator; and later rounds, which resume it."""

import logging
import math
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from errors import AppError, RunNotFound, RunNotResumable, StoreUnavailable, TooManyRequests
from schemas.job import KeyUse
from schemas.run import Engine, Round, Run, RunEnd, RunRequest, RunSpec, TickerCounts
from services.jobs.executor import Executor, Submit
from services.jobs.fork_server import FORKS_ARE_SAFE
from services.jobs.job import START_WITHIN, Jobs
from services.runs.actions import trains_networks
from services.runs.pieces import Piece
from services.runs.runs import MAX_ROUNDS, Runs, naming_run, not_done
from services.storage.registry import DEFAULT, ModelRegistry
from services.training.universe import Universes

CHUNKS_PER_WORKER = 4  # so that workers end at about the same time
IMPORTING_CHUNKS_PER_WORKER = 2  # where each worker imports torch, which costs as much as training a ticker
MAX_CHUNK = {"train": 50, "fine_tune": 50, "backtest": 50, "forecast": 100, "score": 100}
"""The most tickers of a chunk, by action: few enough to lose little, and enough to import torch once for many."""
KEY_MODEL = "run"  # in the place of a model's id, in the document of an Idempotency-Key

log = logging.getLogger(__name__)


def start_run(
    request: RunRequest,
    runs: Runs,
    executor: Executor,
    registry: ModelRegistry,
    universes: Universes,
    now: datetime,
    token: str,
    *,
    engine: Engine,
    n_workers: int,
    jobs: Jobs,
    key: str | None = None,
) -> Run:
    """A new run; or the one that was made before with the same Idempotency-Key.

    Args:
        request: what to do.
        runs: stores the run.
        executor: runs its coordinator.
        registry: has the model that a fine-tuning begins with.
        universes: those of the machine that runs the coordinator.
        now: the time.
        token: eight hex digits that make the id unique.
        engine: what runs the workers.
        n_workers: how many workers the run has, for the size of its chunks.
        jobs: stores the use of the key.
        key: the caller's Idempotency-Key.

    Raises:
        IdempotencyKeyReused: the key was used with another request.
        UniverseNotFound, TrainingUnavailable: there is no such universe where the run would begin.
        ModelNotFound: the model of the request does not exist.
        RunCapacityExceeded, TrainerUnavailable: the run cannot begin now; it is not stored, or has ended as lost.
    """
    tickers = request.tickers if request.universe is None else universes.get(request.universe).tickers
    spec = RunSpec(
        id=f"{now:%Y%m%dt%H%M%S}-{token}",
        created_at=now,
        request=request.without_tickers(),
        tickers=tickers,
        base_model_id=_base(request, registry),
        webhook=request.webhook,
    )
    if request.model_id is not None:
        registry.card(request.model_id)  # a name that does not exist would fail every ticker
    if key is not None:
        spec = _once(spec, jobs, key)
        try:
            return runs.status(spec.id, now)
        except RunNotFound:
            pass  # new, or its request failed between the key and the run
    document = _round(spec, spec.tickers, executor.name, engine, now, n_workers)
    with executor.slot() as submit, naming_run(spec.id):
        if runs.add(spec, document):
            _submit(Piece(spec.id, 0), submit, runs, now, len(tickers))
    with naming_run(spec.id):
        return runs.status(spec.id, now)


def resume_run(run_id: str, runs: Runs, executor: Executor, now: datetime, *, engine: Engine, n_workers: int) -> Run:
    """Try the tickers again that failed, were cancelled or lost; those that succeeded are not done again.

    Raises:
        RunNotFound: there is no such run.
        RunNotResumable: it goes on, or every ticker has succeeded.
        RunCapacityExceeded, TrainerUnavailable: it cannot begin now.
    """
    run = runs.status(run_id, now)
    if run.ended_at is None:
        raise RunNotResumable(f"run {run_id!r} is {run.state}; cancel it first", run_id=run_id, state=run.state)
    view = runs.view(run_id, now)
    tickers = not_done(view)
    if not tickers:
        raise RunNotResumable(f"every ticker of run {run_id!r} has succeeded", run_id=run_id, state=run.state)
    if len(view.rounds) >= MAX_ROUNDS:
        raise RunNotResumable(f"run {run_id!r} was resumed {MAX_ROUNDS - 1} times", run_id=run_id, state=run.state)
    piece = Piece(run_id, len(view.rounds))
    document = _round(view.spec, tickers, executor.name, engine, now, n_workers)
    with executor.slot() as submit, naming_run(run_id):
        runs.announce_end(view.spec, piece.round, now)
        if runs.add_round(piece, document):  # else another caller has just resumed it
            _submit(piece, submit, runs, now, len(tickers))
    return runs.status(run_id, now)


def resume_waiting_runs(runs: Runs, executor: Executor) -> None:
    """Bring coordinators to the rounds of this executor that an earlier process left waiting."""
    try:
        waiting = runs.waiting_rounds()
    except AppError as error:
        log.warning("waiting runs were not resumed: %s", error.message)
        return
    for piece, document in waiting:
        if document.executor != executor.name:
            continue
        try:
            with executor.slot() as submit:
                submit(str(piece))
        except AppError as error:
            log.warning("run %s was not resumed: %s", piece.run_id, error.message)
            if isinstance(error, TooManyRequests):
                return


def _base(request: RunRequest, registry: ModelRegistry) -> str | None:
    if request.action != "fine_tune":
        return None
    return registry.card(request.options.base_model_id or DEFAULT).model_id


def _once(spec: RunSpec, jobs: Jobs, key: str) -> RunSpec:
    """The spec, with the id that the first request with this key has given it."""
    asked: tuple[object, ...] = (spec.request.model_dump_json(), spec.tickers)
    if spec.webhook is not None:
        asked += (spec.webhook.model_dump_json(),)
    request_sha256 = sha256(repr(asked).encode()).hexdigest()
    use = KeyUse(job_id=spec.id, created_at=spec.created_at, model_id=KEY_MODEL, request_sha256=request_sha256)
    first = jobs.use_key(sha256(f"run {key}".encode()).hexdigest(), use)
    return spec.model_copy(update={"id": first.job_id, "created_at": first.created_at})


def _round(
    spec: RunSpec, tickers: Sequence[str], executor: str, engine: Engine, now: datetime, n_workers: int
) -> Round:
    imports = trains_networks(spec) and not (engine == "local" and FORKS_ARE_SAFE)
    per_worker = IMPORTING_CHUNKS_PER_WORKER if imports else CHUNKS_PER_WORKER
    size = max(1, min(MAX_CHUNK[spec.request.action], math.ceil(len(tickers) / (per_worker * n_workers))))
    chunks = tuple(tuple(tickers[first : first + size]) for first in range(0, len(tickers), size))
    return Round(touched_at=now, executor=executor, engine=engine, chunks=chunks)


def _submit(piece: Piece, submit: Submit, runs: Runs, now: datetime, n_tickers: int) -> None:
    try:
        submit(str(piece))
    except AppError as error:
        reason = f"it could not begin: {error.message}"
        try:
            counts = TickerCounts(lost=n_tickers)
            runs.end(piece, RunEnd(state="lost", at=now, reason=reason, counts=counts))
        except StoreUnavailable as failure:
            log.warning("run %s waits until its deadline of %s: %s", piece.run_id, START_WITHIN, failure.message)
        raise
