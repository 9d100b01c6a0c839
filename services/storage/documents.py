"""JSON documents of the store, parsed as a schema."""

import gzip
import logging
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from tenacity import RetryError, Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from errors import AppError, ArtifactCorrupt, ArtifactNotFound, StoreUnavailable
from services.storage.store import RETRY_AFTER_S, ArtifactStore
from telemetry.measures import DOCUMENTS_UNREADABLE, NO_METER, Meter

MAX_DOCUMENT_BYTES = 16_000_000  # the largest of ours, the forecasts of 5,000 tickers, has three quarters
GZIP = b"\x1f\x8b"  # how compressed documents begin
READERS = 8
UPDATE_ATTEMPTS = 30  # of writers that disturb each other, one succeeds in each attempt

DocumentT = TypeVar("DocumentT", bound=BaseModel)

log = logging.getLogger(__name__)


def read_document(store: ArtifactStore, key: str, kind: type[DocumentT]) -> DocumentT:
    """Read and parse a document.

    Raises:
        ArtifactNotFound, StoreUnavailable: from the store.
        ArtifactCorrupt: the content does not match the schema.
    """
    return _parsed(key, store.get(key), kind)


def packed(document: BaseModel) -> bytes:
    """The document as compressed JSON, the same bytes for the same document."""
    return gzip.compress(document.model_dump_json().encode(), compresslevel=6, mtime=0)


def read_packed(store: ArtifactStore, key: str, kind: type[DocumentT]) -> DocumentT:
    """``read_document`` of one that may be compressed.

    Raises:
        ArtifactNotFound, StoreUnavailable, ArtifactCorrupt: as ``read_document``.
    """
    content = store.get(key)
    try:
        if content.startswith(GZIP):
            content = _unpacked(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ArtifactCorrupt(f"{key} is not readable") from error
    return _parsed(key, content, kind)


def _unpacked(content: bytes) -> bytes:
    """A byte more than a document may have at most: a thousand times as much can hide in a few bytes."""
    with gzip.GzipFile(fileobj=BytesIO(content)) as file:
        return file.read(MAX_DOCUMENT_BYTES + 1)


def read_updated(store: ArtifactStore, key: str, kind: type[DocumentT]) -> DocumentT:
    """``read_document`` of one that ``update_document`` writes: some servers need a second request for the newest.

    Raises:
        ArtifactNotFound, StoreUnavailable, ArtifactCorrupt: as ``read_document``.
    """
    return _parsed(key, store.read_versioned(key).data, kind)


def update_document(
    store: ArtifactStore,
    key: str,
    kind: type[DocumentT],
    change: Callable[[DocumentT | None], DocumentT | None],
    *,
    repair: bool = False,
) -> DocumentT | None:
    """Read a document, change it, and store it if no other writer was faster; otherwise read and change it again.

    Args:
        store: has the document.
        key: where it is.
        kind: its schema.
        change: the new document; None, or the document it was given, where nothing needs to be stored. Called once for
            each attempt. Receives None where there is no document.
        repair: an unreadable document counts as none, and is replaced.

    Returns:
        What ``change`` returned in the end.

    Raises:
        ArtifactCorrupt: the document is not readable, without ``repair``.
        StoreUnavailable: from the store, or other writers were faster ``UPDATE_ATTEMPTS`` times.
    """
    result: DocumentT | None = None

    def attempt() -> bool:
        nonlocal result
        try:
            stored = store.read_versioned(key)
        except ArtifactNotFound:
            stored = None
        try:
            document = None if stored is None else _parsed(key, stored.data, kind)
        except ArtifactCorrupt:
            if not repair:
                raise
            document = None
        result = change(document)
        if result is None or result is document:
            return True
        data = result.model_dump_json(exclude_defaults=True).encode()
        return store.create(key, data) if stored is None else store.replace(key, data, stored.version)

    attempts = Retrying(
        retry=retry_if_result(lambda done: not done),
        wait=wait_random_exponential(0.01, max=0.5),
        stop=stop_after_attempt(UPDATE_ATTEMPTS),
    )
    try:
        attempts(attempt)
    except RetryError as error:
        message = f"could not change {key!r}: other writers were faster {UPDATE_ATTEMPTS} times"
        raise StoreUnavailable(message, retry_after_s=RETRY_AFTER_S, key=key) from error
    return result


def _parsed(key: str, content: bytes, kind: type[DocumentT]) -> DocumentT:
    if len(content) > MAX_DOCUMENT_BYTES:
        raise ArtifactCorrupt(f"{key} has {len(content)} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise ArtifactCorrupt(f"{key} is not readable") from error


def readable_documents(
    store: ArtifactStore,
    keys: Iterable[str],
    kind: type[DocumentT],
    meter: Meter = NO_METER,
    read: Callable[[ArtifactStore, str, type[DocumentT]], DocumentT] = read_document,
) -> list[DocumentT]:
    """The documents that can be read, in the order of their keys; the others are logged, counted and left out.

    Raises:
        StoreUnavailable: from the store.
    """

    def readable(key: str) -> DocumentT | None:
        try:
            return read(store, key, kind)
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
