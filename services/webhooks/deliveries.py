"""Deliveries as documents of the store: those that are open, and those that are done.

The delivery of an end is opened before the work is stored, so that no crash loses it. An open one is changed by
conditional writes only. A done one is created once; then the open one is deleted.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from errors import ArtifactNotFound
from schemas.webhook import Delivery, Webhook, WebhookStatus
from services.storage.documents import document_keys, read_document, read_updated, update_document
from services.storage.store import ArtifactStore

WEBHOOKS = "webhooks/"
OPEN, DONE = f"{WEBHOOKS}open/", f"{WEBHOOKS}done/"

FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=3)


def job_delivery(job_id: str) -> str:
    """The id of the announcement of a job's end."""
    return f"job_{job_id}"


def run_delivery(run_id: str, round_: int) -> str:
    """The id of the announcement that a round of a run has ended: a run that is resumed ends once more."""
    return f"run_{run_id}_{round_}"


def pause_after(attempts: int) -> timedelta:
    """How long to wait after so many failed attempts.

    >>> [pause_after(n) // timedelta(minutes=1) for n in (1, 2, 3, 6, 7, 100)]
    [1, 2, 4, 32, 60, 60]
    """
    doubled: int = 2 ** min(attempts - 1, 10)
    return min(FIRST_PAUSE * doubled, LONGEST_PAUSE)


def open_delivery(store: ArtifactStore, delivery_id: str, now: datetime) -> None:
    """Store an open delivery; nothing where there is one."""
    delivery = Delivery(id=delivery_id, created_at=now)
    store.create(_open(delivery_id), delivery.model_dump_json(exclude_defaults=True).encode())


def open_ids(store: ArtifactStore) -> Iterator[str]:
    """Ids of the deliveries that are not done."""
    for key in document_keys(store, OPEN):
        yield key.removeprefix(OPEN).removesuffix(".json")


def read_open(store: ArtifactStore, delivery_id: str) -> Delivery | None:
    """An open delivery; None where it is done, or there is none."""
    try:
        return read_updated(store, _open(delivery_id), Delivery)
    except ArtifactNotFound:
        return None


def claim_attempt(store: ArtifactStore, seen: Delivery, now: datetime) -> Delivery | None:
    """The delivery with one attempt more, which the caller makes; None where another process makes it.

    The next attempt is due whatever becomes of this one: a process that ends in the middle has lost nothing.
    """

    def begin(stored: Delivery | None) -> Delivery | None:
        if stored is None or stored.attempts != seen.attempts:
            return None
        attempts = stored.attempts + 1
        return stored.model_copy(
            update={
                "attempts": attempts,
                "first_attempt_at": stored.first_attempt_at or now,
                "next_attempt_at": now + pause_after(attempts),
                "state": "retrying",
            }
        )

    if store.exists(_done(seen.id)):  # a process ended after it had stored the end
        store.delete(_open(seen.id))
        return None
    return update_document(store, _open(seen.id), Delivery, begin)


def record_failure(store: ArtifactStore, attempt: Delivery, why: str, now: datetime, *, final: bool = False) -> bool:
    """Store why an attempt failed; whether there will be another.

    The last attempt is the first one after ``GIVE_UP_AFTER``, or a ``final`` one.
    """
    if final or now - (attempt.first_attempt_at or now) >= GIVE_UP_AFTER:
        _finish(store, attempt.model_copy(update={"state": "given_up", "last_error": why, "next_attempt_at": None}))
        return False

    def fail(stored: Delivery | None) -> Delivery | None:
        return None if stored is None else stored.model_copy(update={"last_error": why})

    update_document(store, _open(attempt.id), Delivery, fail)
    return True


def record_success(store: ArtifactStore, attempt: Delivery) -> None:
    _finish(store, attempt.model_copy(update={"state": "delivered", "last_error": None, "next_attempt_at": None}))


def drop(store: ArtifactStore, delivery_id: str) -> None:
    """Delete an open delivery that announces nothing."""
    store.delete(_open(delivery_id))


def delivery_status(store: ArtifactStore, webhook: Webhook, delivery_id: str) -> WebhookStatus:
    """How far the delivery is."""
    delivery = read_open(store, delivery_id) or _find_done(store, delivery_id)
    return WebhookStatus(
        host=urlsplit(webhook.url).hostname or "",
        state="waiting" if delivery is None else delivery.state,
        attempts=0 if delivery is None else delivery.attempts,
        last_error=None if delivery is None else delivery.last_error,
        next_attempt_at=None if delivery is None else delivery.next_attempt_at,
    )


def _finish(store: ArtifactStore, delivery: Delivery) -> None:
    store.create(_done(delivery.id), delivery.model_dump_json(exclude_defaults=True).encode())
    store.delete(_open(delivery.id))


def _find_done(store: ArtifactStore, delivery_id: str) -> Delivery | None:
    try:
        return read_document(store, _done(delivery_id), Delivery)
    except ArtifactNotFound:
        return None


def _open(delivery_id: str) -> str:
    return f"{OPEN}{delivery_id}.json"


def _done(delivery_id: str) -> str:
    return f"{DONE}{delivery_id}.json"
