"""One worker at a time for a document: every change is a conditional write that checks who has it."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from errors import ArtifactNotFound
from schemas.run import Attempt, Leased
from services.storage.documents import read_updated, update_document
from services.storage.store import ArtifactStore

LeasedT = TypeVar("LeasedT", bound=Leased)


class LeaseLost(Exception):
    """Another process has taken the document from this worker: it must not complete anything any more."""


def claim(store: ArtifactStore, key: str, kind: type[LeasedT], worker: str, now: datetime) -> LeasedT | None:
    """Take a document that no worker has; None where one has it, it has ended, or it is missing."""

    def claimed(document: LeasedT | None) -> LeasedT | None:
        if document is None or document.ended or document.worker is not None:
            return document
        attempts = (*document.attempts, Attempt(worker=worker, claimed_at=now))
        return document.model_copy(update={"attempts": attempts, "touched_at": now})

    found = update_document(store, key, kind, claimed)
    return found if found is not None and found.worker == worker else None


def change(
    store: ArtifactStore,
    key: str,
    kind: type[LeasedT],
    worker: str,
    now: datetime,
    changed: Callable[[LeasedT], LeasedT],
) -> LeasedT:
    """Change a document that this worker has.

    Raises:
        LeaseLost: it has it no more.
    """

    def apply(document: LeasedT | None) -> LeasedT:
        if document is None or document.worker != worker:
            raise LeaseLost(key)
        return changed(document).model_copy(update={"touched_at": now})

    result = update_document(store, key, kind, apply)
    assert result is not None  # noqa: S101 - ``apply`` never returns None
    return result


def release(
    store: ArtifactStore,
    key: str,
    kind: type[LeasedT],
    worker: str,
    now: datetime,
    changed: Callable[[LeasedT], LeasedT] = lambda document: document,
) -> None:
    """Give a document back; nothing where this worker has it no more."""

    def released(document: LeasedT | None) -> LeasedT | None:
        if document is None or document.worker != worker:
            return document
        last = document.attempts[-1].model_copy(update={"ended_at": now})
        attempts = (*document.attempts[:-1], last)
        return changed(document).model_copy(update={"attempts": attempts, "touched_at": now})

    update_document(store, key, kind, released)


def has_lease(store: ArtifactStore, key: str, kind: type[LeasedT], worker: str) -> bool:
    """Whether this worker still has the document."""
    try:
        return read_updated(store, key, kind).worker == worker
    except ArtifactNotFound:
        return False
