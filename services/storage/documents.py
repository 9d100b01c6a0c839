"""JSON documents of the store, parsed as a schema."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from errors import AppError, ArtifactCorrupt, ArtifactNotFound
from services.storage.store import ArtifactStore
from telemetry.measures import DOCUMENTS_UNREADABLE, NO_METER, Meter

MAX_DOCUMENT_BYTES = 16_000_000  # the largest of ours, of a session with many forecasts, has a hundredth
READERS = 8

DocumentT = TypeVar("DocumentT", bound=BaseModel)

log = logging.getLogger(__name__)


def read_document(store: ArtifactStore, key: str, kind: type[DocumentT]) -> DocumentT:
    """Read and parse a document.

    Raises:
        ArtifactNotFound, StoreUnavailable: from the store.
        ArtifactCorrupt: the content does not match the schema.
    """
    content = store.get(key)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise ArtifactCorrupt(f"{key} has {len(content)} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactCorrupt(f"{key} is not readable") from error


def readable_documents(
    store: ArtifactStore, keys: Iterable[str], kind: type[DocumentT], meter: Meter = NO_METER
) -> list[DocumentT]:
    """The documents that can be read, in the order of their keys; the others are logged, counted and left out.

    Raises:
        StoreUnavailable: from the store.
    """

    def readable(key: str) -> DocumentT | None:
        try:
            return read_document(store, key, kind)
        except ArtifactNotFound:  # deleted since its key was listed
            return None
        except ArtifactCorrupt as error:
            report_unreadable(error, meter)
            return None

    with ThreadPoolExecutor(READERS) as readers:
        return [one for one in readers.map(readable, keys) if one is not None]


def report_unreadable(error: AppError, meter: Meter = NO_METER) -> None:
    """Log and count a document that a list leaves out."""
    log.warning("left out: %s", error.message)
    meter.record(DOCUMENTS_UNREADABLE)


def document_keys(store: ArtifactStore, prefix: str) -> list[str]:
    """Keys of the documents below a prefix, ascending; the folder markers of an S3 console are left out."""
    return [key for key in store.list_keys(prefix) if key.endswith(".json")]
