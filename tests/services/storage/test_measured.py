"""The metrics of a store; the contract suite tests that it behaves as a store."""

from collections.abc import Callable

import pytest

from errors import ArtifactNotFound, StoreUnavailable
from services.storage.measured import InstrumentedStore
from services.storage.store import ArtifactStore
from telemetry.measures import STORE_OPERATIONS, STORE_SECONDS
from tests.fakes import InMemoryArtifactStore, RecordingMeter, UnreliableStore


@pytest.mark.parametrize(
    ("operation", "act"),
    [
        ("get", lambda store: store.get("a")),
        ("put", lambda store: store.put("a", b"more")),
        ("create", lambda store: store.create("a", b"more")),
        ("get", lambda store: store.read_versioned("a")),
        ("replace", lambda store: store.replace("a", b"more", "version")),
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


@pytest.mark.parametrize(
    ("key", "down", "error", "outcome"),
    [
        ("a", False, ArtifactNotFound, "absent"),
        ("a", True, StoreUnavailable, "store_unavailable"),
        ("../a", False, ValueError, "internal"),
    ],
)
def test_an_absent_key_a_failure_and_a_bug_are_counted_apart(
    meter: RecordingMeter, key: str, down: bool, error: type[Exception], outcome: str
) -> None:
    with pytest.raises(error):
        InstrumentedStore(UnreliableStore(down=down), meter).get(key)

    assert meter.labels(STORE_OPERATIONS) == [{"operation": "get", "outcome": outcome}]
