import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bootstrap import bundled_model
from config import Settings
from errors import PricesUnreachable
from services import health
from services.health import HealthCheck
from services.prices.measured import InstrumentedPriceSource
from services.prices.series import PriceHistory
from services.storage.registry import ModelRegistry
from telemetry.measures import MODEL_LOADED, NO_METER
from tests.fakes import FakePriceSource, RecordingMeter, UnreliableStore, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
HANGS_S = 30.0
BUNDLED = bundled_model(Settings(_env_file=None))


class Store(UnreliableStore):
    """Hangs while it must not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()

    def _record(self, call: str, *, refused: bool = False) -> None:
        super()._record(call, refused=refused)
        self.answers.wait(HANGS_S)

    @property
    def n_probes(self) -> int:
        return self.calls.count("exists")


@pytest.fixture
def store() -> Store:
    return Store()


class Prices(FakePriceSource):
    """Every price is stale, except those of H, which are unavailable."""

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        if ticker == "H":
            raise PricesUnreachable("down")
        return replace(walk_history(ticker, n_sessions=5), stale=True)


@pytest.fixture
def prices() -> InstrumentedPriceSource:
    return InstrumentedPriceSource(Prices(), NO_METER)


@pytest.fixture
def health_check(store: Store, prices: InstrumentedPriceSource, meter: RecordingMeter) -> HealthCheck:
    return HealthCheck(store, prices, meter)


@pytest.fixture
def registry(store: Store) -> ModelRegistry:
    return ModelRegistry(store, BUNDLED)


def codes(health_check: HealthCheck, registry: ModelRegistry) -> tuple[str, list[str]]:
    found = health_check.health(registry, NOW)
    return found.status, [reason.code for reason in found.reasons]


def test_a_service_that_can_answer_is_ok(
    health_check: HealthCheck, registry: ModelRegistry, meter: RecordingMeter
) -> None:
    assert codes(health_check, registry) == ("ok", [])
    assert meter.values(MODEL_LOADED) == [1]


@pytest.mark.parametrize("read_before", [True, False])
def test_a_store_that_fails_is_a_reason_while_the_default_model_still_answers(
    health_check: HealthCheck, registry: ModelRegistry, store: Store, read_before: bool
) -> None:
    if read_before:
        registry.card("default")
    store.down = True

    found = health_check.health(registry, NOW)

    assert (found.status, found.model_loaded) == ("degraded", True)
    assert [reason.code for reason in found.reasons] == ["store_unavailable"]


def test_without_default_model_and_store_the_service_is_unavailable(
    health_check: HealthCheck, store: Store, meter: RecordingMeter
) -> None:
    store.down = True

    assert codes(health_check, ModelRegistry(store)) == ("unavailable", ["store_unavailable"])
    assert meter.values(MODEL_LOADED) == [0]


def test_without_default_model_stored_ones_may_answer(health_check: HealthCheck, store: Store) -> None:
    assert codes(health_check, ModelRegistry(store)) == ("degraded", ["model_not_found"])


def test_stale_prices_are_named_with_the_other_reasons(
    health_check: HealthCheck, store: Store, prices: InstrumentedPriceSource
) -> None:
    for ticker in ("A", "B", "C", "D", "E", "F", "G"):
        prices.history(ticker, NOW)
    with pytest.raises(PricesUnreachable):
        prices.history("H", NOW)

    found = health_check.health(ModelRegistry(store), NOW)

    assert [reason.code for reason in found.reasons] == ["model_not_found", "prices_stale", "prices_unavailable"]
    assert found.reasons[1].detail.endswith("for A, B, C, D, E and 2 more")
    assert found.reasons[2].detail.endswith("for H")


def test_a_store_that_hangs_delays_no_answer_for_long(
    health_check: HealthCheck, registry: ModelRegistry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_TIMEOUT_S", 0.2)
    store.answers.clear()
    started = time.monotonic()

    found = [codes(health_check, registry) for _ in range(3)]

    assert found == [("degraded", ["store_unavailable"])] * 3  # the bundled model needs no store
    assert time.monotonic() - started < HANGS_S / 2
    assert store.n_probes == 1  # no second probe while the first has no answer
    store.answers.set()


def test_the_store_is_probed_once_in_a_while(health_check: HealthCheck, registry: ModelRegistry, store: Store) -> None:
    for _ in range(10):
        health_check.health(registry, NOW)

    assert store.n_probes == 1


def test_a_store_that_comes_back_is_noticed(
    health_check: HealthCheck, registry: ModelRegistry, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "STORE_TTL_S", 0.0)
    store.down = True
    before = codes(health_check, registry)[0]

    store.down = False

    assert (before, codes(health_check, registry)[0]) == ("degraded", "ok")


def test_a_bug_is_not_reported_as_a_failed_store(health_check: HealthCheck, registry: ModelRegistry) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError

    registry.serve = broken  # type: ignore[assignment, method-assign]

    with pytest.raises(ZeroDivisionError):
        health_check.health(registry, NOW)
