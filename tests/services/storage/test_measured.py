"""The metrics of a store; the contract suite tests that it behaves as a store."""

from collections.abc import Callable

import pytest

from errors import ArtifactNotFound, StoreUnavailable
from services.storage.measured import InstrumentedStore
from services.storage.store import ArtifactStore
from telemetry.measures import STORE_OPERATIONS, STORE_SECONDS
from tests.fakes import FailingStore, InMemoryArtifactStore, RecordingMeter


@pytest.fixture
def meter() -> RecordingMeter:
    return RecordingMeter()


@pytest.mark.parametrize(
    ("operation", "act"),
    [
        ("get", lambda store: store.get("a")),
        ("put", lambda store: store.put("a", b"more")),
        ("create", lambda store: store.create("a", b"more")),
        ("exists", lambda store: store.exists("b")),
        ("list", lambda store: store.list_keys("")),
        ("delete", lambda store: store.delete("b")),
    ],
)
def test_every_operation_is_counted_and_timed(
    meter: RecordingMeter, operation: str, act: Callable[[ArtifactStore], object]
) -> None:
    inner = InMemoryArtifactStore()
    inner.put("a", b"data")

    act(InstrumentedStore(inner, meter))

    assert meter.labels(STORE_OPERATIONS) == [{"operation": operation, "outcome": "ok"}]
    assert meter.labels(STORE_SECONDS) == [{"operation": operation}]
    assert 0 <= meter.values(STORE_SECONDS)[0] < 1


def test_a_missing_key_is_absent_and_not_a_failure(meter: RecordingMeter) -> None:
    with pytest.raises(ArtifactNotFound):
        InstrumentedStore(InMemoryArtifactStore(), meter).get("a")

    assert meter.labels(STORE_OPERATIONS) == [{"operation": "get", "outcome": "absent"}]


def test_a_failure_has_its_code(meter: RecordingMeter) -> None:
    with pytest.raises(StoreUnavailable):
        InstrumentedStore(FailingStore(), meter).put("a", b"data")

    assert meter.labels(STORE_OPERATIONS) == [{"operation": "put", "outcome": "store_unavailable"}]


def test_a_bug_is_internal(meter: RecordingMeter) -> None:
    with pytest.raises(ValueError, match="not an artifact key"):
        InstrumentedStore(InMemoryArtifactStore(), meter).get("../a")

    assert meter.labels(STORE_OPERATIONS) == [{"operation": "get", "outcome": "internal"}]
