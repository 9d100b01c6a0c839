import pytest

from errors import ArtifactCorrupt, ArtifactNotFound
from schemas.alias import AliasRequest
from services.storage.documents import document_keys, read_document
from tests.fakes import InMemoryArtifactStore


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
