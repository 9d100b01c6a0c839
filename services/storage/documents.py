"""Documents of the store: JSON that this program wrote, or that is corrupt."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from errors import ArtifactCorrupt
from services.storage.store import ArtifactStore

DocumentT = TypeVar("DocumentT", bound=BaseModel)


def read_document(store: ArtifactStore, key: str, kind: type[DocumentT]) -> DocumentT:
    """The document under a key.

    Raises:
        ArtifactNotFound: there is none.
        ArtifactCorrupt: it is not what was written.
        StoreUnavailable: from the store.
    """
    content = store.get(key)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactCorrupt(f"{key} is not readable") from error


def document_keys(store: ArtifactStore, prefix: str) -> list[str]:
    """Keys of the documents below a prefix, ascending; what a console leaves as a folder is none."""
    return [key for key in store.list_keys(prefix) if key.endswith(".json")]
