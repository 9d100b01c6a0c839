"""Whether the service can answer: the default model, the store, and how fresh its prices are."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfPatience
from datetime import datetime
from typing import Generic, TypeVar

from errors import AppError, StoreUnavailable
from schemas.card import ModelCard
from schemas.root import Health, HealthReason
from services.prices.measured import PriceFreshness, PriceIssue
from services.storage.registry import DEFAULT, ModelRegistry
from services.storage.store import ArtifactStore
from telemetry.measures import MODEL_LOADED, Meter

PATIENCE_S = 2.0  # for a store that hangs; whoever asks for health has not much more
STORE_TTL_S = 5.0
PROBE = "aliases/probe"  # nothing is stored there, and whoever forecasts may look
SHOWN = 5  # tickers
AILMENTS: Mapping[PriceIssue, str] = {
    "prices_stale": "a newer session should exist of",
    "prices_unavailable": "prices unavailable for",
}

T = TypeVar("T")


class HealthCheck:
    """What ``GET /health`` examines; neither a slow store nor a dead one makes it wait for long.

    Args:
        store: asked at most every ``STORE_TTL_S``.
        watch: what is known of the prices that were served; none are fetched.
        meter: told whether the default model can answer.
    """

    def __init__(self, store: ArtifactStore, watch: PriceFreshness, meter: Meter) -> None:
        self._store = store
        self._watch = watch
        self._meter = meter
        self._asking_store, self._asking_model = _TimedProbe[bool](), _TimedProbe[ModelCard]()
        self._card: ModelCard | None = None
        self._store_error: AppError | None = None
        self._store_checked_at = -STORE_TTL_S

    def health(self, registry: ModelRegistry, now: datetime) -> Health:
        """``ok``; ``degraded`` with reasons while something can be answered; ``unavailable`` when nothing can.

        Loading the default model costs something once: afterwards it comes from the registry's cache.
        """
        card, model_error = self.default_model(registry)
        store_error = self._check_store()
        reasons = (*_told(model_error, store_error), *self._issues_prices(now))
        cannot_answer = card is None and store_error is not None  # neither the default model nor a stored one
        return Health(
            status="unavailable" if cannot_answer else "degraded" if reasons else "ok",
            model_loaded=card is not None,
            model_id=None if card is None else card.model_id,
            reasons=reasons,
            timestamp=now,
        )

    def default_model(self, registry: ModelRegistry) -> tuple[ModelCard | None, AppError | None]:
        """The card of the default model once it is loaded, or why it is not; the meter hears which."""

        def load() -> ModelCard:
            card, _ = registry.card_to_serve(DEFAULT)
            registry.load(card)
            return card

        card, error = self._asking_model.ask(load)
        if isinstance(error, StoreUnavailable):  # it still answers with what it has; the store's own check tells of it
            card = self._card or registry.bundled
            error = None if card is not None else error
        else:
            self._card = card
        self._meter.record(MODEL_LOADED, 0 if card is None else 1)
        return card, error

    def _check_store(self) -> AppError | None:
        if time.monotonic() - self._store_checked_at >= STORE_TTL_S:
            _, self._store_error = self._asking_store.ask(lambda: self._store.exists(PROBE))
            self._store_checked_at = time.monotonic()
        return self._store_error

    def _issues_prices(self, now: datetime) -> Iterator[HealthReason]:
        for issue, what in AILMENTS.items():
            tickers = self._watch.tickers_with(issue, now)
            if tickers:
                more = f" and {len(tickers) - SHOWN} more" if len(tickers) > SHOWN else ""
                yield HealthReason(code=issue, detail=f"{what} {', '.join(tickers[:SHOWN])}{more}")


class _TimedProbe(Generic[T]):
    """Asks what may hang in a thread of its own, waits a while, and asks nothing new while that is not answered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None

    def ask(self, question: Callable[[], T]) -> tuple[T | None, AppError | None]:
        """The answer, or the error instead of one."""
        try:
            return self._asked(question).result(PATIENCE_S), None
        except AppError as error:
            return None, error
        except OutOfPatience:
            return None, StoreUnavailable(f"the store gave no answer within {PATIENCE_S:g} s")

    def _asked(self, question: Callable[[], T]) -> "Future[T]":
        with self._lock:
            if self._pending is None or self._pending.done():
                self._pending = Future()
                # a daemon: one that hangs for ever must not keep the process from ending
                threading.Thread(
                    target=_answer, args=(question, self._pending), name="health_check", daemon=True
                ).start()
            return self._pending


def _answer(question: Callable[[], T], future: "Future[T]") -> None:
    try:
        future.set_result(question())
    except BaseException as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
        future.set_exception(error)


def _told(*errors: AppError | None) -> tuple[HealthReason, ...]:
    """What ails, each kind once: a store that is down is why the model cannot be had."""
    found = {error.code: error.message for error in errors if error is not None}
    return tuple(HealthReason(code=code, detail=detail) for code, detail in found.items())
