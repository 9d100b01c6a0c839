"""Where a nightly run publishes its forecasts: each run as a document of its own, and a pointer to the latest.

A document is created once, before the pointer names it. A reader therefore sees a whole run, the new one or the one
before. Documents have their day in their name, by which ``services.retention`` deletes them. A record of
``services.monitoring.forecast_log`` is in the folder of a ticker, and a publication is not.
"""

import logging
from hashlib import sha256

from errors import ArtifactCorrupt, ArtifactNotFound
from schemas.latest import Pointer, Publication
from services.storage.documents import packed, read_packed, read_updated, update_document
from services.storage.store import ArtifactStore

POINTER = "forecasts/latest.json"
DRAFT = "forecasts/draft.json"

log = logging.getLogger(__name__)


def publish(store: ArtifactStore, publication: Publication) -> Pointer:
    """Store a run and point to it, unless a later run is the latest already; returns the pointer that counts now.

    Raises:
        StoreUnavailable: from the store.
    """
    content = packed(publication)
    key = f"forecasts/{publication.made_at:%Y-%m-%d_%H%M%S}_{sha256(content).hexdigest()[:12]}.json"
    store.create(key, content)
    ours = Pointer(document=key, made_at=publication.made_at)

    def newer(before: Pointer | None) -> Pointer:
        return before if before is not None and before.made_at > ours.made_at else ours

    now = update_document(store, POINTER, Pointer, newer, repair=True)
    store.delete(DRAFT)
    return now or ours


def read_pointer(store: ArtifactStore) -> Pointer:
    """Which run is the latest.

    Raises:
        ArtifactNotFound: no run has been published.
        ArtifactCorrupt, StoreUnavailable: from the store.
    """
    return read_updated(store, POINTER, Pointer)


def read_publication(store: ArtifactStore, key: str) -> Publication:
    """A run, or the draft of one.

    Raises:
        ArtifactNotFound, ArtifactCorrupt, StoreUnavailable: from the store.
    """
    return read_packed(store, key, Publication)


def save_draft(store: ArtifactStore, draft: Publication) -> None:
    """Keep what an unfinished run has forecast, for the next call to continue."""
    store.put(DRAFT, packed(draft))


def draft_and_latest(store: ArtifactStore) -> tuple[Publication | None, Publication | None]:
    """What earlier calls have forecast; None for what does not exist or cannot be read.

    Raises:
        StoreUnavailable: from the store.
    """
    try:
        latest = _or_none(store, read_pointer(store).document)
    except (ArtifactNotFound, ArtifactCorrupt):
        latest = None
    return _or_none(store, DRAFT), latest


def _or_none(store: ArtifactStore, key: str) -> Publication | None:
    try:
        return read_publication(store, key)
    except ArtifactNotFound:
        return None
    except ArtifactCorrupt as error:
        log.warning("its forecasts are made again: %s", error.message)
        return None
