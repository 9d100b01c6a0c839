from collections.abc import Callable
from types import SimpleNamespace

import pytest

from errors import ArtifactCorrupt, ArtifactNotFound, StoreUnavailable
from schemas.alias import AliasRequest
from services.storage.documents import (
    UPDATE_ATTEMPTS,
    document_keys,
    read_document,
    readable_documents,
    update_document,
)
from tests.fakes import InMemoryArtifactStore, UnreliableStore

KEY = "folder/a.json"


def to(model_id: str) -> Callable[[AliasRequest | None], AliasRequest]:
    return lambda _: AliasRequest(model_id=model_id)


def test_a_document_is_read_as_it_was_written(store: InMemoryArtifactStore) -> None:
    written = AliasRequest(model_id="walk-1")
    store.put("folder/a.json", written.model_dump_json().encode())

    assert read_document(store, "folder/a.json", AliasRequest) == written


def test_a_missing_document_is_not_a_corrupt_one(store: InMemoryArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound):
        read_document(store, "folder/a.json", AliasRequest)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"model_id": "walk-1", "more": 1}', b"\xff\xfe"])
def test_what_is_no_document_is_corrupt_by_name(store: InMemoryArtifactStore, content: bytes) -> None:
    store.put("folder/a.json", content)

    with pytest.raises(ArtifactCorrupt, match=r"folder/a\.json is not readable"):
        read_document(store, "folder/a.json", AliasRequest)


def test_only_documents_are_listed(store: InMemoryArtifactStore) -> None:
    for key in ("folder/", "folder/a.json", "folder/b/c.json", "folder/notes.txt"):
        store._artifacts[key] = b""  # a console writes keys that this program never would

    assert document_keys(store, "folder/") == ["folder/a.json", "folder/b/c.json"]


def test_an_update_sees_what_was_stored_and_creates_what_was_not(store: InMemoryArtifactStore) -> None:
    seen: list[AliasRequest | None] = []

    def change(known: AliasRequest | None) -> AliasRequest:
        seen.append(known)
        return AliasRequest(model_id=f"walk-{len(seen)}")

    first = update_document(store, KEY, AliasRequest, change)
    second = update_document(store, KEY, AliasRequest, change)

    assert seen == [None, first]
    assert read_document(store, KEY, AliasRequest) == second


@pytest.mark.parametrize("change", [lambda known: known, lambda known: None])
def test_an_update_that_changes_nothing_writes_nothing(change: Callable[[AliasRequest | None], AliasRequest]) -> None:
    store = UnreliableStore()
    update_document(store, KEY, AliasRequest, to("walk-1"))
    store.refuses = lambda key: True

    update_document(store, KEY, AliasRequest, change)

    assert read_document(store, KEY, AliasRequest).model_id == "walk-1"


@pytest.mark.parametrize("stored", [True, False])
def test_an_update_is_made_again_on_what_another_wrote_meanwhile(store: InMemoryArtifactStore, stored: bool) -> None:
    if stored:
        update_document(store, KEY, AliasRequest, to("walk-1"))
    seen: list[str | None] = []

    def change(known: AliasRequest | None) -> AliasRequest:
        seen.append(None if known is None else known.model_id)
        if len(seen) == 1:
            update_document(store, KEY, AliasRequest, to("theirs-1"))
        return AliasRequest(model_id="mine-1")

    update_document(store, KEY, AliasRequest, change)

    assert seen == ["walk-1" if stored else None, "theirs-1"]
    assert read_document(store, KEY, AliasRequest).model_id == "mine-1"


def test_an_update_that_others_keep_overtaking_gives_up(
    store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))
    calls: list[int] = []

    def change(_: AliasRequest | None) -> AliasRequest:
        calls.append(len(calls))
        store.put(KEY, f'{{"model_id": "theirs-{len(calls)}"}}'.encode())
        return AliasRequest(model_id="mine-1")

    with pytest.raises(StoreUnavailable, match="other writers were faster") as failure:
        update_document(store, KEY, AliasRequest, change)

    assert len(calls) == UPDATE_ATTEMPTS
    assert failure.value.retry_after_s == 1


def test_an_unreadable_document_is_changed_only_where_it_may_be_repaired(store: InMemoryArtifactStore) -> None:
    store.put(KEY, b"{")

    with pytest.raises(ArtifactCorrupt):
        update_document(store, KEY, AliasRequest, to("walk-1"))
    assert store.get(KEY) == b"{"
    update_document(store, KEY, AliasRequest, to("walk-1"), repair=True)

    assert read_document(store, KEY, AliasRequest).model_id == "walk-1"


def test_a_document_that_is_deleted_after_it_was_listed_is_left_out(store: InMemoryArtifactStore) -> None:
    update_document(store, KEY, AliasRequest, to("walk-1"))

    found = readable_documents(store, ["folder/gone.json", KEY], AliasRequest)

    assert [one.model_id for one in found] == ["walk-1"]
