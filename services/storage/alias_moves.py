"""Moving an alias while others move it, and while others delete the model that it is moved to.

An alias and a model are two documents, and no store writes two at once. Each side announces what it is about to do
before it looks at the other:

- A move adds itself to ``pending`` in the alias, then looks for the model, then points the alias to it, only if its
  entry in ``pending`` is still there.
- A deletion writes ``deletions/{id}.json``, then removes what is pending for the model from every alias, and refuses
  if one points to it. It then decides in its document, only if no move has written there since. The card goes last.
- A move that finds a deletion that is not decided writes into its document, and thereby stops it.

Every step is one conditional write, so each order of the steps of any number of moves and deletions is safe, and so is
a crash after each of them: an entry in ``pending`` without a move, and a deletion that is not decided, hinder no other.
"""

import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from errors import ArtifactCorrupt, ArtifactNotFound, ModelInUse, ModelNotFound, StoreUnavailable
from schemas.alias import Alias, AliasRecord, Deletion, PendingMove
from services.storage.documents import document_keys, read_updated, update_document
from services.storage.store import RETRY_AFTER_S, ArtifactStore

DELETIONS = "deletions/"
MAX_PENDING = 8  # the oldest entry is dropped, and its move begins again
MOVE_ATTEMPTS = 10
READERS = 8  # threads that read the aliases


class _Interrupted(Exception):
    """The entry of this move is no longer pending."""


def point_alias(
    store: ArtifactStore,
    key: str,
    name: str,
    model_id: str,
    validate_model: Callable[[], object],
    moved: Callable[[Alias | None], Alias],
) -> Alias:
    """Point the alias ``name``, stored under ``key``, to a model.

    Args:
        store: has the aliases and the models.
        key: of the alias.
        name: the alias.
        model_id: a stored model.
        validate_model: raises ModelNotFound where the store does not have the card of the model.
        moved: the alias after the move, from the one before; None where it was never moved, or is unreadable.

    Raises:
        ModelNotFound: the model is deleted, or being deleted.
        StoreUnavailable: from the store, or others interrupted the move ``MOVE_ATTEMPTS`` times.
    """
    for _ in range(MOVE_ATTEMPTS):
        try:
            return _move_once(store, key, name, model_id, validate_model, moved)
        except _Interrupted:
            continue
    message = f"alias {name!r} could not be moved: others interrupted the move {MOVE_ATTEMPTS} times"
    raise StoreUnavailable(message, retry_after_s=RETRY_AFTER_S, key=key)


def _move_once(
    store: ArtifactStore,
    key: str,
    name: str,
    model_id: str,
    validate_model: Callable[[], object],
    moved: Callable[[Alias | None], Alias],
) -> Alias:
    token = uuid.uuid4().hex
    update_document(store, key, AliasRecord, lambda record: _announced(record, name, token, model_id), repair=True)
    _stop_deletion(store, model_id)
    validate_model()
    record = update_document(store, key, AliasRecord, lambda record: _moved(record, token, moved), repair=True)
    if record is None or record.moved is None:
        raise _Interrupted
    return record.moved


def decide_deletion(store: ArtifactStore, model_id: str, list_aliases: Callable[[], Iterable[str]]) -> None:
    """Make sure that no alias points to a model or ever will. The caller then deletes it, and calls ``end_deletion``.

    Raises:
        ModelInUse: an alias points to the model, or is being moved to it.
    """
    token = uuid.uuid4().hex
    key = deletion_key(model_id)
    begun = update_document(store, key, Deletion, lambda known: _begun(known, token), repair=True)
    if begun is not None and begun.decided:  # by one that crashed, or is still deleting
        return
    with ThreadPoolExecutor(READERS) as readers:
        # listed only now: an alias that is created later belongs to a move that finds this deletion
        found = readers.map(lambda alias: _interrupt_moves(store, alias, model_id), list_aliases())
        names = [name for name in found if name is not None]
    if names:
        raise in_use(model_id, names)

    def decided(known: Deletion | None) -> Deletion:
        if known is None or known.token != token:
            raise ModelInUse(f"model {model_id!r} is in use by a move of an alias: try again", model_id=model_id)
        return Deletion(token=token, decided=True)

    update_document(store, key, Deletion, decided)


def end_deletion(store: ArtifactStore, model_id: str) -> None:
    """Forget the deletion of a model that has no card any more."""
    store.delete(deletion_key(model_id))


def deletions(store: ArtifactStore) -> list[str]:
    """Ids of the models of which a deletion has begun and not ended."""
    return [key.removeprefix(DELETIONS).removesuffix(".json") for key in document_keys(store, DELETIONS)]


def is_decided(store: ArtifactStore, model_id: str) -> bool:
    """Whether the deletion of the model can no longer be stopped."""
    try:
        return read_updated(store, deletion_key(model_id), Deletion).decided
    except (ArtifactNotFound, ArtifactCorrupt):
        return False


def deletion_key(model_id: str) -> str:
    return f"{DELETIONS}{model_id}.json"


def in_use(model_id: str, names: Iterable[str]) -> ModelInUse:
    """The error for a model that aliases point to."""
    message = f"model {model_id!r} is in use by alias {', '.join(names)}: move the alias first"
    return ModelInUse(message, model_id=model_id)


def _announced(record: AliasRecord | None, name: str, token: str, model_id: str) -> AliasRecord:
    known = AliasRecord(alias=name, previous_model_id=None) if record is None else record
    pending = (*known.pending, PendingMove(token=token, model_id=model_id))[-MAX_PENDING:]
    return known.model_copy(update={"pending": pending})


def _moved(record: AliasRecord | None, token: str, moved: Callable[[Alias | None], Alias]) -> AliasRecord:
    if record is None or all(move.token != token for move in record.pending):
        raise _Interrupted
    others = tuple(move for move in record.pending if move.token != token)
    return AliasRecord(**dict(moved(record.moved)), pending=others)


def _stop_deletion(store: ArtifactStore, model_id: str) -> None:
    key = deletion_key(model_id)
    if not store.exists(key):
        return

    def stopped(known: Deletion | None) -> Deletion | None:
        if known is not None and known.decided:
            raise ModelNotFound(f"no model {model_id!r}: it is being deleted", model_id=model_id)
        return None if known is None else Deletion(token=uuid.uuid4().hex)

    update_document(store, key, Deletion, stopped, repair=True)


def _begun(known: Deletion | None, token: str) -> Deletion:
    return known if known is not None and known.decided else Deletion(token=token)


def _interrupt_moves(store: ArtifactStore, key: str, model_id: str) -> str | None:
    """Remove the moves to a model that are pending; the name of the alias where it already points to the model."""

    def without(record: AliasRecord | None) -> AliasRecord | None:
        if record is None or all(move.model_id != model_id for move in record.pending):
            return record
        return record.model_copy(update={"pending": tuple(m for m in record.pending if m.model_id != model_id)})

    try:
        record = update_document(store, key, AliasRecord, without)
    except ArtifactCorrupt:  # it points nowhere, and a move that begins now finds the deletion
        return None
    return record.alias if record is not None and record.model_id == model_id else None
