"""Runs as documents in the artifact store, and the state of a run as it follows from them.

There is no counter: the state of a run is counted from the documents of its chunks. Each chunk has one worker at a
time, whose every change is conditional, so that no ticker is completed by two.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from threading import Lock
from typing import Literal

from cachetools import LRUCache

from errors import AppError, ArtifactCorrupt, ArtifactNotFound, JobCancelled, JobLost, RunFinished, RunNotFound
from schemas.job import CancelRequest, JobFailure
from schemas.run import (
    MAX_FAILURES,
    Attempt,
    Chunk,
    LostWorker,
    Round,
    Run,
    RunEnd,
    RunFailure,
    RunPage,
    RunSpec,
    RunState,
    RunTicker,
    RunTickerPage,
    TickerCounts,
    TickerResult,
)
from services.jobs.job import DEAD_AFTER, LOST_AFTER_S, START_WITHIN
from services.jobs.liveness import Liveness
from services.runs.pieces import CANCEL, END, ROUND_KEY, SPEC_KEY, SPECS, WORK, Piece, spec_key
from services.storage.documents import READERS, DocumentT, read_document, read_updated, update_document
from services.storage.store import ArtifactStore
from services.webhooks.deliveries import delivery_status, open_delivery, run_delivery

MAX_ATTEMPTS = 3  # of a chunk in one round, whose workers die
QUEUED_FOR = timedelta(hours=6)  # the longest that Lambda keeps an event
MAX_ROUNDS = 1000
REMEMBERED = 2000  # chunks that have ended, which change no more
UNKNOWN_WORKER = "unknown"

log = logging.getLogger(__name__)

State = TickerResult | Literal["waiting", "running"]
"""How a ticker ended, or that it has not."""


@dataclass(frozen=True)
class RoundView:
    """A round as its documents were when they were read."""

    piece: Piece
    round: Round
    chunks: Mapping[int, Chunk]
    cancelled: bool
    end: RunEnd | None

    @property
    def is_live(self) -> bool:
        """Whether a worker has any of it."""
        return self.round.worker is not None or any(chunk.worker is not None for chunk in self.chunks.values())

    @property
    def is_done(self) -> bool:
        return all(number in self.chunks and self.chunks[number].ended for number in range(len(self.round.chunks)))


@dataclass(frozen=True)
class RunView:
    """A run as its documents were when they were read."""

    spec: RunSpec
    rounds: tuple[RoundView, ...]
    states: Mapping[str, State] = field(default_factory=dict)

    @property
    def latest(self) -> RoundView:
        return self.rounds[-1]

    @property
    def results(self) -> Iterator[TickerResult]:
        """Those of all tickers that have ended, in the order of the request."""
        return (state for state in self.states.values() if isinstance(state, TickerResult))


class Runs:
    """The runs of a store, and when this reader last saw the heartbeat of each worker change.

    Args:
        store: has the documents.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(self, store: ArtifactStore, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._liveness = Liveness(monotonic)
        self._ended: LRUCache[str, Chunk] = LRUCache(REMEMBERED)
        self._lock = Lock()

    def add(self, spec: RunSpec, first: Round) -> bool:
        """Store a run; False if it is stored already. Its round comes first: no reader meets a run without one."""
        self.announce_end(spec, 0, spec.created_at)
        self.add_round(Piece(spec.id, 0), first)
        return self.store.create(spec_key(spec.id), spec.model_dump_json(exclude_defaults=True).encode())

    def announce_end(self, spec: RunSpec, round_: int, now: datetime) -> None:
        """Open the announcement of the end of a round, before the round is stored; nothing without a webhook."""
        if spec.webhook is not None:
            open_delivery(self.store, run_delivery(spec.id, round_), now)

    def add_round(self, piece: Piece, document: Round) -> bool:
        """Store a round; False if another process has stored one with this number."""
        return self.store.create(piece.key, document.model_dump_json(exclude_defaults=True).encode())

    def add_chunk(self, piece: Piece, document: Chunk) -> bool:
        """Store a chunk; False if it is stored already."""
        return self.store.create(piece.key, document.model_dump_json(exclude_defaults=True).encode())

    def spec(self, run_id: str) -> RunSpec:
        """Read the spec of a run.

        Raises:
            RunNotFound: there is no such run.
        """
        try:
            spec = read_document(self.store, spec_key(run_id), RunSpec)
        except ArtifactNotFound:
            raise RunNotFound(f"no run {run_id!r}", run_id=run_id) from None
        if spec.id != run_id:
            raise ArtifactCorrupt(f"the run {run_id!r} has the documents of {spec.id!r}")
        return spec

    def round(self, piece: Piece) -> Round:
        """Read a round.

        Raises:
            RunNotFound: there is none.
        """
        try:
            return read_updated(self.store, Piece(piece.run_id, piece.round).key, Round)
        except ArtifactNotFound:
            raise RunNotFound(f"no round {piece.round} of run {piece.run_id!r}", run_id=piece.run_id) from None

    def chunk(self, piece: Piece) -> Chunk | None:
        """Read a chunk; None where there is none yet."""
        with self._lock:
            known = self._ended.get(piece.key)
        if known is not None:
            return known
        try:
            found = read_updated(self.store, piece.key, Chunk)
        except ArtifactNotFound:
            return None
        if found.ended:
            with self._lock:
                self._ended[piece.key] = found
        return found

    def is_stopped(self, piece: Piece) -> bool:
        """Whether the round is cancelled or has ended. One call of the store."""
        return bool(self.store.list_keys(piece.stop_prefix))

    def is_cancelled(self, piece: Piece) -> bool:
        return self.store.exists(f"{piece.folder}{CANCEL}")

    def cancel(self, run_id: str, now: datetime) -> Run:
        """Cancel a run: at once if no worker has begun, else at the next heartbeat of its workers.

        Raises:
            RunNotFound: there is no such run.
            RunFinished: it has ended.
        """
        run, view = self._observed(run_id, now)
        if run.ended_at is not None:
            raise RunFinished(f"run {run_id!r} has already ended as {run.state}", run_id=run_id, state=run.state)
        request = CancelRequest(requested_at=now)
        self.store.create(f"{view.latest.piece.folder}{CANCEL}", request.model_dump_json().encode())
        return self.status(run_id, now)

    def status(self, run_id: str, now: datetime) -> Run:
        """The current state of a run; ends it where its tickers have ended, or its workers were lost.

        Raises:
            RunNotFound: there is no such run.
        """
        run, view = self._observed(run_id, now)
        webhook = view.spec.webhook
        if webhook is None:
            return run
        status = delivery_status(self.store, webhook, run_delivery(run_id, run.n_resumed))
        return run.model_copy(update={"webhook": status})

    def view(self, run_id: str, now: datetime) -> RunView:
        """Every ticker's state or result.

        Raises:
            RunNotFound: there is no such run.
        """
        self.status(run_id, now)
        return self._view(self.spec(run_id))

    def page(self, limit: int, after: str | None, now: datetime) -> RunPage:
        """Up to ``limit`` runs, newest first, older than ``after``; those that cannot be read by their ids alone."""
        ids = sorted(found[1] for key in self.store.list_keys(SPECS) if (found := SPEC_KEY.fullmatch(key)))
        older = [run_id for run_id in reversed(ids) if after is None or run_id < after]
        shown = older[:limit]
        runs: list[Run] = []
        unreadable: list[str] = []
        for run_id in shown:
            try:
                runs.append(self.status(run_id, now).model_copy(update={"failures": ()}))
            except RunNotFound:
                continue  # it has expired since the list was made
            except ArtifactCorrupt as error:
                log.warning("run %s cannot be read: %s", run_id, error.message)
                unreadable.append(run_id)
        return RunPage(
            runs=tuple(runs), next_after=shown[-1] if len(older) > limit else None, unreadable=tuple(unreadable)
        )

    def tickers(self, run_id: str, state: str | None, limit: int, after: str | None, now: datetime) -> RunTickerPage:
        """Up to ``limit`` tickers in a state, or in any, after the ticker ``after``."""
        view = self.view(run_id, now)
        found = [_run_ticker(ticker, one) for ticker, one in view.states.items()]
        if after is not None:
            place = next((place for place, one in enumerate(found) if one.ticker == after), len(found))
            found = found[place + 1 :]
        wanted = [one for one in found if state is None or one.state == state]
        return RunTickerPage(
            tickers=tuple(wanted[:limit]), next_after=wanted[limit - 1].ticker if len(wanted) > limit else None
        )

    def waiting_rounds(self) -> list[tuple[Piece, Round]]:
        """Rounds whose coordinator has not begun, oldest first."""
        newest: dict[str, int] = {}
        keys = self.store.list_keys(WORK)
        ended = {key.rsplit("/", 2)[0] for key in keys if key.endswith((f"/{CANCEL}", f"/{END}"))}
        for key in keys:
            if found := ROUND_KEY.fullmatch(key):
                newest[found[1]] = max(newest.get(found[1], 0), int(found[2]))
        pieces = [Piece(run_id, number) for run_id, number in sorted(newest.items())]
        rounds = [(piece, self.round(piece)) for piece in pieces if piece.folder.rstrip("/") not in ended]
        return [(piece, one) for piece, one in rounds if not one.attempts]

    def lose(self, piece: Piece, why: str, now: datetime, worker: str | None = None) -> None:
        """Record that the worker of a piece is lost; only of ``worker`` if it is given.

        The ticker in work is tried once more, after the others. A chunk that has lost ``MAX_ATTEMPTS`` workers ends.
        """
        if piece.chunk is None:
            update_document(self.store, piece.key, Round, lambda one: _without_worker(one, why, now, worker))
        else:
            update_document(self.store, piece.key, Chunk, lambda one: _after_a_loss(one, why, now, worker))
        self._liveness.forget(str(piece))

    def end(self, piece: Piece, end: RunEnd) -> None:
        """End a round; only the first end counts."""
        self.store.create(f"{piece.folder}{END}", end.model_dump_json(exclude_defaults=True).encode())

    def lose_the_silent(self, round_: RoundView, now: datetime) -> bool:
        """Record the loss of each worker that was silent for too long; whether there was one."""
        pieces: list[tuple[Piece, Round | Chunk]] = [(round_.piece, round_.round)]
        pieces += [(round_.piece.of_chunk(number), chunk) for number, chunk in round_.chunks.items()]
        silent = [(piece, one, s) for piece, one in pieces if (s := self._silence(piece, one, now)) is not None]
        for piece, one, silence_s in silent:
            self.lose(piece, f"the worker sent no heartbeat for {silence_s:.0f} s", now, one.worker)
        return bool(silent)

    def round_view(self, piece: Piece) -> RoundView:
        """Read a round and its chunks."""
        keys = set(self.store.list_keys(piece.folder))
        return self._round_view(Piece(piece.run_id, piece.round), keys)

    def _silence(self, piece: Piece, document: Round | Chunk, now: datetime) -> float | None:
        """Seconds of silence of a worker that is lost, by the rule of ``Jobs.status``; None where none is lost."""
        if document.worker is None:
            self._liveness.forget(str(piece))
            return None
        silence_s, limit_s = self._liveness.silence_s(str(piece), document.touched_at), LOST_AFTER_S
        if silence_s is None:
            silence_s, limit_s = (now - document.touched_at).total_seconds(), DEAD_AFTER.total_seconds()
        return silence_s if silence_s > limit_s else None

    def _observed(self, run_id: str, now: datetime) -> tuple[Run, RunView]:
        spec = self.spec(run_id)
        latest = self._latest_ended(spec)
        if latest is not None:
            return _run(latest.spec, latest.latest, len(latest.rounds) - 1), latest
        view = self._view(spec)
        if view.latest.end is None and self.lose_the_silent(view.latest, now):
            view = self._view(spec)
        if view.latest.end is None and (end := _end(view, now)) is not None:
            self.end(view.latest.piece, end)
            view = self._view(spec)
        return _run(spec, view.latest, len(view.rounds) - 1, view), view

    def _latest_ended(self, spec: RunSpec) -> RunView | None:
        """The run without its chunks, which an ended one needs no more; None where it has not ended."""
        keys, numbers = self._keys(spec.id)
        piece = Piece(spec.id, numbers[-1])
        if f"{piece.folder}{END}" not in keys:
            return None
        chunkless = {key for key in keys if key.startswith(piece.stop_prefix)}
        latest = self._round_view(piece, chunkless)
        return RunView(spec, tuple(latest for _ in numbers))

    def _view(self, spec: RunSpec) -> RunView:
        keys, numbers = self._keys(spec.id)
        rounds = tuple(self._round_view(Piece(spec.id, number), keys) for number in numbers)
        return RunView(spec, rounds, _states(spec, rounds))

    def _keys(self, run_id: str) -> tuple[set[str], list[int]]:
        keys = set(self.store.list_keys(f"{WORK}{run_id}/"))
        numbers = sorted(int(found[2]) for key in keys if (found := ROUND_KEY.fullmatch(key)))
        if not numbers:
            raise RunNotFound(f"no run {run_id!r}", run_id=run_id)
        return keys, numbers

    def _round_view(self, piece: Piece, keys: set[str]) -> RoundView:
        document = self.round(piece)
        stored = [number for number in range(len(document.chunks)) if piece.of_chunk(number).key in keys]
        with ThreadPoolExecutor(READERS) as readers:
            found = zip(stored, readers.map(lambda number: self.chunk(piece.of_chunk(number)), stored), strict=True)
            chunks = {number: chunk for number, chunk in found if chunk is not None}
        return RoundView(
            piece,
            document,
            chunks,
            cancelled=f"{piece.folder}{CANCEL}" in keys,
            end=self._find(f"{piece.folder}{END}", RunEnd) if f"{piece.folder}{END}" in keys else None,
        )

    def _find(self, key: str, kind: type[DocumentT]) -> DocumentT | None:
        try:
            return read_document(self.store, key, kind)
        except ArtifactNotFound:
            return None


def run_url(run_id: str) -> str:
    """The address of a run, relative to the API."""
    return f"/runs/{run_id}"


@contextmanager
def naming_run(run_id: str) -> Iterator[None]:
    """Let every error name the run: it exists, whatever has failed since."""
    try:
        yield
    except AppError as error:
        error.add_context(run_id=run_id, run_url=run_url(run_id))
        raise


def not_done(view: RunView) -> tuple[str, ...]:
    """The tickers that have not succeeded, in the order of the request."""
    return tuple(
        ticker
        for ticker, state in view.states.items()
        if not (isinstance(state, TickerResult) and state.state == "succeeded")
    )


def undone(chunk: Chunk) -> tuple[str, ...]:
    """The tickers of a chunk without a result; those in work when a worker was lost come last."""
    done = {result.ticker for result in chunk.results}
    suspects = [attempt.ticker for attempt in chunk.attempts if attempt.lost is not None]
    left = [ticker for ticker in chunk.tickers if ticker not in done]
    return tuple(sorted(left, key=lambda ticker: ticker in suspects))


def lost_result(ticker: str, why: str) -> TickerResult:
    error = JobLost(f"{why}; the run can be resumed")
    return TickerResult(ticker=ticker, state="lost", error=JobFailure.of(error))


def cancelled_result(ticker: str) -> TickerResult:
    return TickerResult(ticker=ticker, state="cancelled", error=JobFailure.of(JobCancelled("the run was cancelled")))


def _without_worker(document: Round | None, why: str, now: datetime, worker: str | None) -> Round | None:
    if document is None or document.worker is None or (worker is not None and document.worker != worker):
        return document
    last = document.attempts[-1].model_copy(update={"ended_at": now, "lost": why})
    return document.model_copy(update={"attempts": (*document.attempts[:-1], last), "touched_at": now})


def _after_a_loss(chunk: Chunk | None, why: str, now: datetime, worker: str | None) -> Chunk | None:
    if chunk is None or chunk.ended or (worker is not None and chunk.worker != worker):
        return chunk
    if chunk.worker is None:  # it died before it could claim the chunk
        attempts = (*chunk.attempts, Attempt(worker=UNKNOWN_WORKER, claimed_at=now, ended_at=now, lost=why))
    else:
        last = chunk.attempts[-1].model_copy(update={"ended_at": now, "lost": why, "ticker": chunk.current})
        attempts = (*chunk.attempts[:-1], last)
    lost_on = [attempt.ticker for attempt in attempts if attempt.lost is not None and attempt.ticker is not None]
    given_up = [ticker for ticker in undone(chunk) if lost_on.count(ticker) > 1]
    over = sum(attempt.lost is not None for attempt in attempts) >= MAX_ATTEMPTS
    results = (*chunk.results, *(lost_result(ticker, why) for ticker in (undone(chunk) if over else given_up)))
    return chunk.model_copy(
        update={
            "attempts": attempts,
            "touched_at": now,
            "current": None,
            "phase": None,
            "results": results,
            "ended": len(results) == len(chunk.tickers),
        }
    )


def _states(spec: RunSpec, rounds: Iterable[RoundView]) -> dict[str, State]:
    states: dict[str, State] = dict.fromkeys(spec.tickers, "waiting")
    for one in rounds:
        for number, tickers in enumerate(one.round.chunks):
            chunk = one.chunks.get(number)
            found = {} if chunk is None else {result.ticker: result for result in chunk.results}
            for ticker in tickers:
                before = states[ticker]
                if isinstance(before, TickerResult) and before.state == "succeeded":
                    continue
                states[ticker] = found.get(ticker) or _unfinished(one, chunk, ticker)
    return states


def _unfinished(one: RoundView, chunk: Chunk | None, ticker: str) -> State:
    if one.end is None:
        return "running" if chunk is not None and chunk.worker is not None and chunk.current == ticker else "waiting"
    if one.end.state == "cancelled":
        return cancelled_result(ticker)
    return lost_result(ticker, one.end.reason or "its worker was lost")


def _end(view: RunView, now: datetime) -> RunEnd | None:
    """The end of the newest round; None while it goes on."""
    latest, reason = view.latest, None
    if not latest.is_done:
        if latest.cancelled and not latest.is_live:
            return _ended(view, "cancelled", None, now)
        reason = _loss(latest, now)
        return None if reason is None else _ended(view, "lost", reason, now)
    return _ended(view, None, None, now)


def _loss(one: RoundView, now: datetime) -> str | None:
    """Why a round that is not done will not go on; None where it may."""
    document = one.round
    if document.worker is not None:
        return None
    if not document.outlived and document.attempts:
        return document.attempts[-1].lost or "its coordinator ended"
    if one.is_live:
        return None
    newest = max(leased.touched_at for leased in (document, *one.chunks.values()))
    limit = QUEUED_FOR if document.outlived else START_WITHIN
    return "no worker claimed the rest in time" if now - newest > limit else None


def _ended(view: RunView, state: RunState | None, reason: str | None, now: datetime) -> RunEnd:
    """The end of a round: with a ``state``, tickers without a result have it too."""
    states = dict(view.states)
    for ticker, one in states.items():
        if not isinstance(one, TickerResult):
            states[ticker] = cancelled_result(ticker) if state == "cancelled" else lost_result(ticker, reason or "")
    counts = _counts(states.values())
    if state is None:
        state = "succeeded" if counts.succeeded == len(states) else "partial" if counts.succeeded else "failed"
        if state != "succeeded" and counts.cancelled and view.latest.cancelled:
            state = "cancelled"
    return RunEnd(
        state=state,
        at=now,
        reason=reason,
        counts=counts,
        failures=_failures(states),
        lost_workers=_lost_workers(view.rounds),
    )


def _counts(states: Iterable[State]) -> TickerCounts:
    names = [state.state if isinstance(state, TickerResult) else state for state in states]
    return TickerCounts(**Counter[str](names))


def _failures(states: Mapping[str, State]) -> tuple[RunFailure, ...]:
    """Failed and lost tickers, those that failed first."""
    failed = [
        RunFailure(
            ticker=ticker, state=one.state, code=one.error.code, status=one.error.status, detail=one.error.detail
        )
        for ticker, one in states.items()
        if isinstance(one, TickerResult) and one.error is not None and one.state != "cancelled"
    ]
    return tuple(sorted(failed, key=lambda one: one.state)[:MAX_FAILURES])


def _lost_workers(rounds: Iterable[RoundView]) -> tuple[LostWorker, ...]:
    leased = chain.from_iterable((one.round, *one.chunks.values()) for one in rounds)
    lost = [
        LostWorker(
            worker=attempt.worker,
            claimed_at=attempt.claimed_at,
            lost_at=attempt.ended_at,
            reason=attempt.lost,
            ticker=attempt.ticker,
        )
        for document in leased
        for attempt in document.attempts
        if attempt.lost is not None and attempt.ended_at is not None
    ]
    return tuple(sorted(lost, key=lambda one: one.lost_at)[-MAX_FAILURES:])


def _run(spec: RunSpec, latest: RoundView, n_resumed: int, view: RunView | None = None) -> Run:
    end = latest.end
    states = {} if view is None else view.states
    counts = end.counts if end is not None else _counts(states.values())
    begun = latest.round.worker is not None or bool(latest.chunks)
    return Run(
        id=spec.id,
        state=end.state if end is not None else "running" if begun else "queued",
        request=spec.request,
        n_tickers=len(spec.tickers),
        created_at=spec.created_at,
        ended_at=None if end is None else end.at,
        cancel_requested=latest.cancelled,
        engine=latest.round.engine,
        base_model_id=spec.base_model_id,
        n_resumed=n_resumed,
        counts=counts,
        share=counts.done / len(spec.tickers),
        reason=None if end is None else end.reason,
        failures=end.failures if end is not None else _failures(states),
        lost_workers=end.lost_workers if end is not None else _lost_workers(() if view is None else view.rounds),
    )


def _run_ticker(ticker: str, state: State) -> RunTicker:
    if not isinstance(state, TickerResult):
        return RunTicker(ticker=ticker, state=state)
    return RunTicker(
        ticker=ticker,
        state=state.state,
        model_id=state.model_id,
        weights_sha256=state.weights_sha256,
        promoted=state.promoted,
        cpu_seconds=state.cpu_seconds,
        error=state.error,
    )
