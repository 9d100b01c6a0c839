"""What a worker does with a chunk of a run: one ticker after the other, each with its own result or error."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from errors import AppError, ArtifactNotFound, StoreUnavailable
from schemas.job import JobEnd, JobFailure, Progress
from schemas.run import TRAINS, Chunk, RunSpec, TickerResult
from services.forecasting.forecasting import Forecasting
from services.forecasting.replays import ReplayStore
from services.jobs.heartbeat import BEAT_S, JobStopped
from services.jobs.job import LOST_AFTER_S
from services.monitoring.forecast_log import ForecastLog
from services.prices.market import MarketAwareSource
from services.runs.actions import ACTION_PHASES, ActionContext, Timed, act
from services.runs.lease import LeasedT, LeaseLost, change, claim, has_lease, release
from services.runs.pieces import Piece
from services.runs.prices import unpack
from services.runs.results import store_table
from services.runs.runs import Runs, cancelled_result, undone
from services.storage.documents import read_updated
from services.storage.registry import ModelRegistry
from services.storage.store import ArtifactStore
from services.storage.write_behind import WriteBehind
from services.training.work import RESERVED_S

POLL_S = 2.0
RECORD_WITHIN_S = 40.0  # and one more call of the store: shorter than the silence of a lost worker

_while_store_fails = Retrying(
    retry=retry_if_exception_type(StoreUnavailable),
    wait=wait_exponential(0.5, max=4.0),
    stop=stop_after_delay(RECORD_WITHIN_S),
    reraise=True,
)
"""Records what is done: a worker that gave up at once would lose it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RunContext:
    """Where a worker reads runs and stores models.

    Attributes:
        runs: the runs.
        registry: the models.
        forecast_log: records the forecasts of the action ``forecast``.
        writer: what the log and the forecasts write with.
        clock: the current time.
        submit: brings another worker to a piece, where the time of this one is limited; None where it is not.
    """

    runs: Runs
    registry: ModelRegistry
    forecast_log: ForecastLog
    writer: WriteBehind
    clock: Callable[[], datetime]
    submit: Callable[[str], None] | None = None

    @property
    def store(self) -> ArtifactStore:
        return self.runs.store


def work_chunk(piece: Piece, worker: str, context: RunContext, seconds_left: float = math.inf) -> None:
    """Do the tickers of a chunk that are not done; nothing where another worker has it, or the round is over.

    Args:
        piece: the chunk.
        worker: the name of this process, different for each.
        context: stores and clock.
        seconds_left: until this process is ended from outside. A chunk that is not done by then goes to another worker.

    Raises:
        StoreUnavailable: a result cannot be stored; the worker counts as lost.
    """
    ends_at = time.monotonic() + seconds_left
    if context.runs.is_stopped(piece):
        log.info("%s: the round is cancelled or has ended; skipping", piece)
        return
    chunk = claimed(piece, Chunk, worker, context)
    if chunk is None:
        log.info("%s is already claimed or done; skipping", piece)
        return
    spec = context.runs.spec(piece.run_id)
    try:
        complete = _do(piece, chunk, worker, spec, context, ends_at)
    except LeaseLost:
        log.warning("%s was taken from this worker", piece)
        return
    if not complete and context.submit is not None:
        context.submit(str(piece))
    context.writer.flush()
    if complete and context.runs.round_view(piece).is_done:
        finish(piece, context)


def finish(piece: Piece, context: RunContext) -> None:
    """End the round if it is done, and store the table of results."""
    now = context.clock()
    if context.runs.status(piece.run_id, now).ended_at is not None:
        store_table(context.runs, piece.run_id, now)


class Beats:
    """The heartbeats of a chunk's worker, as ``Heartbeat`` writes them."""

    def __init__(self, piece: Piece, worker: str, context: RunContext, ticker: str) -> None:
        self._piece = piece
        self._worker = worker
        self._context = context
        self._ticker = ticker
        self._last: float | None = None  # by the monotonic clock
        self._writing = threading.Lock()
        self.lost = False

    def report(self, _: str, progress: Progress) -> None:
        with self._writing:
            if self._last is not None and time.monotonic() - self._last < BEAT_S / 2:
                return  # a heartbeat every few seconds is enough
            update = {"current": self._ticker, "phase": progress.phase}
            try:
                change(
                    self._context.store,
                    self._piece.key,
                    Chunk,
                    self._worker,
                    progress.at,
                    lambda chunk: chunk.model_copy(update=update),
                )
            except LeaseLost:
                self.lost = True
            self._last = time.monotonic()

    def is_stopped(self, _: str) -> bool:
        if self.lost or self._context.runs.is_stopped(self._piece):
            return True
        self.lost = not has_lease(self._context.store, self._piece.key, Chunk, self._worker)
        return self.lost

    def end(self, _: str, end: JobEnd) -> bool:
        """Give the chunk back while a library does not return: the run need not wait for this process."""
        release(self._context.store, self._piece.key, Chunk, self._worker, end.at, _cancelled)
        return True


def claimed(piece: Piece, kind: type[LeasedT], worker: str, context: RunContext) -> LeasedT | None:
    """The piece, if no other worker has it.

    Where an engine repeats what failed, as Lambda does, and other invocations too, a piece that another worker has is
    watched until it is clear whether that one lives.
    """
    mine = claim(context.store, piece.key, kind, worker, context.clock())
    if mine is not None or context.submit is None:
        return mine
    before = read_updated(context.store, piece.key, kind)
    watched_until = time.monotonic() + LOST_AFTER_S
    while before.worker is not None and time.monotonic() < watched_until:
        time.sleep(POLL_S)
        now = read_updated(context.store, piece.key, kind)
        if now.ended or now.touched_at != before.touched_at or context.runs.is_stopped(piece):
            return None  # its worker lives
    if before.worker is not None:
        why = f"the worker sent no heartbeat for {LOST_AFTER_S:.0f} s"
        context.runs.lose(piece, why, context.clock(), before.worker)
    return claim(context.store, piece.key, kind, worker, context.clock())


def _do(piece: Piece, chunk: Chunk, worker: str, spec: RunSpec, context: RunContext, ends_at: float) -> bool:
    """Whether all tickers of the chunk are done."""
    actions = _action_context(piece, spec, context, ends_at)
    needs_s = RESERVED_S + (spec.request.options.max_seconds if spec.request.action in TRAINS else 0.0)
    left = undone(chunk)
    for number, ticker in enumerate(left):
        if number and time.monotonic() + needs_s > ends_at:
            release(context.store, piece.key, Chunk, worker, context.clock(), _idle)
            return False
        result = _result(piece, worker, ticker, actions, context)
        if result is None:
            return False
        _while_store_fails(change, context.store, piece.key, Chunk, worker, context.clock(), _with(result))
    _while_store_fails(release, context.store, piece.key, Chunk, worker, context.clock(), _done)
    context.store.delete(piece.prices_key)
    return True


def _action_context(piece: Piece, spec: RunSpec, context: RunContext, ends_at: float) -> ActionContext:
    try:
        packed = context.store.get(piece.prices_key)
    except ArtifactNotFound:
        raise StoreUnavailable(f"the prices of {piece} are missing") from None
    prices = MarketAwareSource(unpack(packed))
    replays = ReplayStore(context.store, context.writer)
    forecasting = Forecasting(context.registry, prices, replays)
    return ActionContext(
        spec, prices, context.registry, forecasting, context.forecast_log, context.clock, monotonic_end=ends_at
    )


def _result(piece: Piece, worker: str, ticker: str, actions: ActionContext, context: RunContext) -> TickerResult | None:
    """The result or the error of a ticker; None where the run is cancelled or the chunk was taken away."""
    beats = Beats(piece, worker, context, ticker)
    epochs = actions.spec.request.options.epochs
    heartbeat = Timed(beats, str(piece), epochs, context.clock, phases=ACTION_PHASES)
    try:
        with heartbeat:
            heartbeat.validate_wanted()
            return act(ticker, actions, heartbeat)
    except JobStopped:
        if beats.lost:
            raise LeaseLost(piece.key) from None
        release(context.store, piece.key, Chunk, worker, context.clock(), _cancelled)
        return None
    except StoreUnavailable:
        raise  # nothing is wrong with the ticker
    except AppError as error:
        return TickerResult(ticker=ticker, state="failed", error=JobFailure.of(error))
    except Exception:  # one ticker must not hide the others, and its caller sees no more than that of any request
        log.exception("unexpected failure [%s, %s]", piece, ticker)
        opaque = AppError("unexpected failure; the worker's log has the details under the run's id")
        return TickerResult(ticker=ticker, state="failed", error=JobFailure.of(opaque))


def _with(result: TickerResult) -> Callable[[Chunk], Chunk]:
    return lambda chunk: chunk.model_copy(update={"results": (*chunk.results, result), "current": None, "phase": None})


def _idle(chunk: Chunk) -> Chunk:
    return chunk.model_copy(update={"current": None, "phase": None})


def _done(chunk: Chunk) -> Chunk:
    return _idle(chunk).model_copy(update={"ended": True})


def _cancelled(chunk: Chunk) -> Chunk:
    results = (*chunk.results, *(cancelled_result(ticker) for ticker in undone(chunk)))
    return _done(chunk.model_copy(update={"results": results}))
