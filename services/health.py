"""Health of the service: the default model, the store, and the freshness of prices."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from datetime import datetime
from typing import Generic, TypeVar

from errors import AppError, StoreUnavailable
from schemas.card import ModelCard
from schemas.root import Health, HealthReason
from services.prices.measured import InstrumentedPriceSource, PriceIssue
from services.storage.registry import DEFAULT, ModelRegistry
from services.storage.store import ArtifactStore
from telemetry.measures import MODEL_LOADED, Meter

PROBE_TIMEOUT_S = 2.0  # for a store that hangs; load balancers wait little longer
STORE_TTL_S = 5.0
PROBE = "aliases/probe"  # nothing is stored there, and every role that forecasts may read it
TICKERS_SHOWN = 5
PRICE_ISSUES: Mapping[PriceIssue, str] = {
    "prices_stale": "newer prices are missing for",
    "prices_unavailable": "prices unavailable for",
}

T = TypeVar("T")


class HealthCheck:
    """The checks of ``GET /health``; a slow or dead store delays them by at most ``PROBE_TIMEOUT_S``.

    Args:
        store: probed at most every ``STORE_TTL_S``.
        prices: whose freshness counts; none are fetched.
        meter: records whether the default model is loaded.
    """

    def __init__(self, store: ArtifactStore, prices: InstrumentedPriceSource, meter: Meter) -> None:
        self._store = store
        self._prices = prices
        self._meter = meter
        self._store_probe, self._model_probe = _TimedProbe[bool](), _TimedProbe[ModelCard]()
        self._card: ModelCard | None = None
        self._store_error: AppError | None = None
        self._store_checked_at = -STORE_TTL_S

    def health(self, registry: ModelRegistry, now: datetime) -> Health:
        """``ok``; ``degraded`` with reasons while the service can answer; ``unavailable`` while it cannot.

        Loading the default model takes time once; afterwards it comes from the registry's cache.
        """
        card, model_error = self.default_model(registry)
        store_error = self._check_store()
        reasons = (*_error_reasons(model_error, store_error), *self._price_reasons(now))
        cannot_answer = card is None and store_error is not None  # neither the default model nor a stored one
        return Health(
            status="unavailable" if cannot_answer else "degraded" if reasons else "ok",
            model_loaded=card is not None,
            model_id=None if card is None else card.model_id,
            reasons=reasons,
            timestamp=now,
        )

    def default_model(self, registry: ModelRegistry) -> tuple[ModelCard | None, AppError | None]:
        """Load the default model and return its card, or the error; the meter records which."""
        card, error = self._model_probe.result_of(lambda: registry.serve(DEFAULT).card)
        if isinstance(error, StoreUnavailable):  # the last model still answers; the store has a reason of its own
            card = self._card or registry.bundled
            error = None if card is not None else error
        else:
            self._card = card
        self._meter.record(MODEL_LOADED, 0 if card is None else 1)
        return card, error

    def _check_store(self) -> AppError | None:
        if time.monotonic() - self._store_checked_at >= STORE_TTL_S:
            _, self._store_error = self._store_probe.result_of(lambda: self._store.exists(PROBE))
            self._store_checked_at = time.monotonic()
        return self._store_error

    def _price_reasons(self, now: datetime) -> Iterator[HealthReason]:
        for issue, what in PRICE_ISSUES.items():
            tickers = self._prices.tickers_with(issue, now)
            if tickers:
                n_more = len(tickers) - TICKERS_SHOWN
                more = f" and {n_more} more" if n_more > 0 else ""
                yield HealthReason(code=issue, detail=f"{what} {', '.join(tickers[:TICKERS_SHOWN])}{more}")


class _TimedProbe(Generic[T]):
    """Runs a call that may hang in its own thread, with a time-out; starts no second call until the first has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None

    def result_of(self, call: Callable[[], T]) -> tuple[T | None, AppError | None]:
        """The call's result, or its error."""
        try:
            return self._started(call).result(PROBE_TIMEOUT_S), None
        except AppError as error:
            return None, error
        except TimeoutError:
            return None, StoreUnavailable(f"the store did not answer within {PROBE_TIMEOUT_S:g} s")

    def _started(self, call: Callable[[], T]) -> "Future[T]":
        with self._lock:
            if self._pending is None or self._pending.done():
                self._pending = Future()
                # a daemon: one that hangs for ever must not keep the process from ending
                threading.Thread(target=_run, args=(call, self._pending), name="health_check", daemon=True).start()
            return self._pending


def _run(call: Callable[[], T], future: "Future[T]") -> None:
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - it is raised again where the result is read
        future.set_exception(error)


def _error_reasons(*errors: AppError | None) -> tuple[HealthReason, ...]:
    """One reason per error code: when the store is down, the model fails with the same error."""
    found = {error.code: error.message for error in errors if error is not None}
    return tuple(HealthReason(code=code, detail=detail) for code, detail in found.items())
