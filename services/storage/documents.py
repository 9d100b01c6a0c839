"""JSON documents of the store, parsed as a schema."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from errors import ArtifactCorrupt
from services.storage.store import ArtifactStore

DocumentT = TypeVar("DocumentT", bound=BaseModel)


def read_document(store: ArtifactStore, key: str, kind: type[DocumentT]) -> DocumentT:
    """Read and parse a document.

    Raises:
        ArtifactNotFound, StoreUnavailable: from the store.
        ArtifactCorrupt: the content does not match the schema.
    """
    content = store.get(key)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactCorrupt(f"{key} is not readable") from error


def document_keys(store: ArtifactStore, prefix: str) -> list[str]:
    """Keys of the documents below a prefix, ascending; the folder markers of an S3 console are left out."""
    return [key for key in store.list_keys(prefix) if key.endswith(".json")]
