"""Where a nightly run publishes: whole, and never behind a later one."""

import gzip
from datetime import timedelta
from typing import Any

import pytest

from errors import ArtifactCorrupt, ArtifactNotFound, StoreUnavailable
from services.monitoring.forecast_log import recorded
from services.publication import (
    DRAFT,
    POINTER,
    draft_and_latest,
    publish,
    read_pointer,
    read_publication,
    save_draft,
)
from tests.fakes import InMemoryArtifactStore
from tests.services.publications import MADE_AT, publication, stored


def test_a_run_is_read_as_it_was_published(store: InMemoryArtifactStore) -> None:
    run = publication(stored("AAA"), stored("BBB"), fails=("CCC",))

    pointer = publish(store, run)

    assert read_pointer(store) == pointer
    assert read_publication(store, pointer.document) == run
    assert pointer.document.startswith("forecasts/2024-07-18_")


def test_each_run_has_a_document_of_its_own_and_the_later_one_is_the_latest(store: InMemoryArtifactStore) -> None:
    later = publication(made_at=MADE_AT + timedelta(hours=1))

    newest = publish(store, later)
    late = publish(store, publication())  # of a process that was slow

    assert late == newest == read_pointer(store)
    assert len(store.list_keys("forecasts/20")) == 2


class NeverReplaces(InMemoryArtifactStore):
    """Goes down before anything is replaced."""

    def replace(self, key: str, data: bytes, version: str) -> bool:
        raise StoreUnavailable("the store is down")


def test_a_run_that_dies_before_the_pointer_leaves_the_one_before(store: InMemoryArtifactStore) -> None:
    before = publish(store, publication())
    dying = NeverReplaces()
    dying.put(POINTER, store.get(POINTER))
    dying.put(before.document, store.get(before.document))

    with pytest.raises(StoreUnavailable):
        publish(dying, publication(stored(last_close=90.0), made_at=MADE_AT + timedelta(days=1)))

    assert read_publication(dying, read_pointer(dying).document) == publication()


def test_a_draft_ends_with_the_publication(store: InMemoryArtifactStore) -> None:
    save_draft(store, publication(stored("AAA")))
    draft, latest = draft_and_latest(store)

    publish(store, publication())

    assert draft == publication(stored("AAA"))
    assert latest is None
    assert draft_and_latest(store) == (None, publication())


@pytest.mark.parametrize("content", [b"", b"{}", b"\x1f\x8bgarbage", b"null"])
def test_what_cannot_be_read_counts_as_none_and_is_replaced(store: InMemoryArtifactStore, content: bytes) -> None:
    store.put(POINTER, content)
    store.put(DRAFT, content)

    unreadable = draft_and_latest(store)
    pointer = publish(store, publication())

    assert unreadable == (None, None)
    assert read_pointer(store) == pointer


def test_a_document_that_unpacks_to_too_much_is_corrupt(store: InMemoryArtifactStore) -> None:
    store.put(DRAFT, gzip.compress(b"0" * 20_000_000))

    with pytest.raises(ArtifactCorrupt):
        read_publication(store, DRAFT)


def test_before_the_first_run_there_is_no_pointer(store: InMemoryArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound):
        read_pointer(store)


def test_a_publication_is_no_record_of_the_log(store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    save_draft(store, publication())
    publish(store, publication())

    assert list(recorded(store)) == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    "change",
    [
        {"sessions": ()},
        {"median": (1.0,)},
        {"lower": ((98.0,), (97.0,))},
        {"ticker": "a/b"},
        {"drift": "fine"},
        {"last_close": float("nan")},
    ],
)
def test_a_table_with_a_hole_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        publication(stored(**change))


def test_a_ticker_has_one_forecast() -> None:
    with pytest.raises(ValueError, match="each ticker once"):
        publication(stored("AAA"), stored("AAA"))
