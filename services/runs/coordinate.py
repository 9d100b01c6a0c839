"""What the coordinator of a round does: fetch prices, chunk by chunk, bring workers to the chunks, and see them end.

It is the only process of a run that uses the price source, one ticker after the other.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime

from errors import AppError, StoreUnavailable
from schemas.job import JobEnd, JobFailure, Phase, Progress
from schemas.run import Chunk, Round, RunSpec, TickerResult
from services.jobs.executor import Executor, OnExit
from services.jobs.heartbeat import Heartbeat, JobStopped
from services.prices.calendars import history_at
from services.prices.market import MARKETS
from services.prices.series import PriceHistory, PriceSource
from services.runs.lease import LeaseLost, change, has_lease, release
from services.runs.pieces import Piece
from services.runs.prices import pack
from services.runs.runs import RoundView
from services.runs.work import RunContext, claimed, finish

POLL_S = 1.0
LONGEST_POLL_S = 3.0
STOP_WITHIN_S, STOP_POLL_S = 5.0, 0.3
RESERVED_S = 60.0  # of a process whose time is limited: what fetching one more chunk takes

PHASES: dict[Phase, float] = {"fetch": 0.0, "fit": 0.5}

Engine = Callable[[RunSpec, OnExit], AbstractContextManager[Executor]]
"""Makes the executor of a run's chunks, which ends with the block."""

log = logging.getLogger(__name__)


def coordinate(
    piece: Piece,
    worker: str,
    context: RunContext,
    prices: Callable[[RunSpec], PriceSource],
    engine: Engine,
    seconds_left: float = math.inf,
) -> None:
    """Do a round; nothing where another coordinator has it, or it is over.

    Args:
        piece: the round.
        worker: the name of this process, different for each.
        context: stores and clock.
        prices: the price source of a run.
        engine: runs the chunks.
        seconds_left: until this process is ended from outside; another one goes on from there.
    """
    ends_at = time.monotonic() + seconds_left
    if context.runs.is_stopped(piece):
        return
    round_ = claimed(piece, Round, worker, context)
    if round_ is None:
        log.info("%s is already claimed; skipping", piece)
        return
    flights = _Flights(context)
    beats = _RoundBeats(piece, worker, context)
    complete = False
    try:
        with _engaged(engine, flights, piece, worker, context) as executor:
            try:
                with Heartbeat(beats, str(piece), 1, context.clock, phases=PHASES) as beat:
                    complete = _feed(piece, round_, context, prices, executor, flights, beat, ends_at)
                    if complete and not round_.outlived:
                        _see_the_end(piece, context, executor, flights, beat)
            except JobStopped:
                _let_workers_stop(piece, context)
    finally:
        release(context.store, piece.key, Round, worker, context.clock())
    if not complete and context.submit is not None and not context.runs.is_stopped(piece):
        context.submit(str(piece))
        return
    finish(piece, context)


class _RoundBeats:
    """The heartbeats of a coordinator, as ``Heartbeat`` writes them."""

    def __init__(self, piece: Piece, worker: str, context: RunContext) -> None:
        self._piece = piece
        self._worker = worker
        self._context = context

    def report(self, _: str, progress: Progress) -> None:
        try:
            change(self._context.store, self._piece.key, Round, self._worker, progress.at, lambda round_: round_)
        except LeaseLost:
            log.warning("%s was taken from this coordinator", self._piece)

    def is_stopped(self, _: str) -> bool:
        stopped = self._context.runs.is_stopped(self._piece)
        return stopped or not has_lease(self._context.store, self._piece.key, Round, self._worker)

    def end(self, _: str, end: JobEnd) -> bool:
        release(self._context.store, self._piece.key, Round, self._worker, end.at)
        return True


class _Flights:
    """The chunks that the executor has, so that none is submitted twice."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._flying: set[str] = set()
        self._lock = threading.Lock()

    def submit(self, piece: Piece, executor: Executor) -> None:
        with self._lock:
            if str(piece) in self._flying:
                return
            self._flying.add(str(piece))
        try:
            with executor.slot() as submit:
                submit(str(piece))
        except AppError:
            with self._lock:
                self._flying.discard(str(piece))
            raise

    def landed(self, text: str, why: str | None) -> None:
        """The worker of a chunk has ended: what it had not finished is submitted again."""
        piece = Piece.parse(text)
        try:
            if why is not None and piece is not None:
                self._context.runs.lose(piece, why, self._context.clock())
        except StoreUnavailable as error:  # without a heartbeat, it will count as lost
            log.warning("the loss of %s was not stored: %s", text, error.message)
        with self._lock:
            self._flying.discard(text)

    def __contains__(self, piece: Piece) -> bool:
        with self._lock:
            return str(piece) in self._flying


def _feed(
    piece: Piece,
    round_: Round,
    context: RunContext,
    prices: Callable[[RunSpec], PriceSource],
    executor: Executor,
    flights: _Flights,
    heartbeat: Heartbeat,
    ends_at: float,
) -> bool:
    """Fetch and submit each chunk; False where the time of this process is over before all are."""
    spec = context.runs.spec(piece.run_id)
    source: PriceSource | AppError
    try:
        source = prices(spec)
    except AppError as error:  # its universe is gone: every ticker has this error
        source = error
    fetching = _Fetching(source, spec.created_at, context.clock, heartbeat)
    for number, tickers in enumerate(round_.chunks):
        part = piece.of_chunk(number)
        if number and time.monotonic() + RESERVED_S > ends_at:
            return False
        heartbeat.phase("fetch", number / len(round_.chunks))
        chunk = context.runs.chunk(part)
        if chunk is None:
            histories, failed = fetching.fetch(tickers)
            context.store.put(part.prices_key, pack(histories))
            ended = len(failed) == len(tickers)
            chunk = Chunk(tickers=tickers, results=tuple(failed), ended=ended, touched_at=context.clock())
            context.runs.add_chunk(part, chunk)
        if not chunk.ended:
            flights.submit(part, executor)
    return True


class _Fetching:
    """Fetches histories one after the other, as they were known when the run was made."""

    def __init__(
        self, source: PriceSource | AppError, known_at: datetime, clock: Callable[[], datetime], heartbeat: Heartbeat
    ) -> None:
        self._source = source
        self._known_at = known_at
        self._clock = clock
        self._heartbeat = heartbeat
        self._markets: dict[str, PriceHistory | None] = {}

    def fetch(self, tickers: Sequence[str]) -> tuple[list[PriceHistory], list[TickerResult]]:
        """The histories, those of the tickers' markets among them, and a result for each ticker without one."""
        found: dict[str, PriceHistory] = {}
        failed: list[TickerResult] = []
        for ticker in tickers:
            self._heartbeat.phase("fetch")
            try:
                found[ticker] = self._history(ticker)
            except AppError as error:
                failed.append(TickerResult(ticker=ticker, state="failed", error=JobFailure.of(error)))
        for history in list(found.values()):
            for market in self._markets_of(history):
                found.setdefault(market.series.ticker, market)
        return list(found.values()), failed

    def _history(self, ticker: str) -> PriceHistory:
        if isinstance(self._source, AppError):
            raise self._source
        history = self._source.history(ticker, self._clock())
        # a round that resumes the run sees no newer sessions than the first; a source knows best what is stale
        if history.as_of == history_at(history.series, self._known_at, source="", defects=history.defects).as_of:
            return history
        return history_at(history.series, self._known_at, source=history.source, defects=history.defects)

    def _markets_of(self, history: PriceHistory) -> Iterator[PriceHistory]:
        tickers = MARKETS.get(history.series.exchange)
        for name in () if tickers is None else (tickers.index, tickers.implied):
            if name is None:
                continue
            if name not in self._markets:
                self._markets[name] = self._market(name)
            if (market := self._markets[name]) is not None:
                yield market

    def _market(self, name: str) -> PriceHistory | None:
        self._heartbeat.phase("fetch")
        try:
            return self._history(name)
        except AppError as error:
            log.info("the run does without %s: %s", name, error.message)
            return None


def _see_the_end(
    piece: Piece, context: RunContext, executor: Executor, flights: _Flights, heartbeat: Heartbeat
) -> None:
    """Wait until every chunk has ended; one that lost its worker is submitted again."""
    pause_s = POLL_S
    while True:
        heartbeat.phase("fit")
        view = context.runs.round_view(piece)
        if view.is_done:
            return
        now = context.clock()
        context.runs.lose_the_silent(view, now)
        for part in _without_worker(view):
            flights.submit(part, executor)
        time.sleep(pause_s)
        pause_s = min(1.2 * pause_s, LONGEST_POLL_S)


@contextmanager
def _engaged(engine: Engine, flights: _Flights, piece: Piece, worker: str, context: RunContext) -> Iterator[Executor]:
    """The executor; where there is none, such as a cluster that cannot be reached, the run says why it is lost."""
    with ExitStack() as entered:
        try:
            executor = entered.enter_context(engine(context.runs.spec(piece.run_id), flights.landed))
        except AppError as error:
            context.runs.lose(piece, error.message, context.clock(), worker)
            raise
        yield executor


def _let_workers_stop(piece: Piece, context: RunContext) -> None:
    """Wait while the workers of a cancelled round record what they have not done."""
    log.info("%s is stopped", piece)
    until = time.monotonic() + STOP_WITHIN_S
    while time.monotonic() < until:
        view = context.runs.round_view(piece)
        if all(chunk.worker is None for chunk in view.chunks.values()):
            return
        time.sleep(STOP_POLL_S)


def _without_worker(view: RoundView) -> Iterator[Piece]:
    for number, chunk in view.chunks.items():
        if not chunk.ended and chunk.worker is None:
            yield view.piece.of_chunk(number)
