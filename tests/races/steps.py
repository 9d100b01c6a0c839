"""Writers that run one call of the store at a time, in an order that a test chooses, and die where it wants.

A writer is a thread that is parked before each call. No two ever run at once, so a run is one interleaving, and the
same choices give the same run. Threads without a writer, such as the test's own, call the store directly.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from botocore.hooks import BaseEventHooks

from errors import AppError
from services.storage.store import ArtifactStore, Versioned

Grant = Literal["go", "die before", "die after"]
WITHIN_S = 30.0

_here = threading.local()


class Killed(BaseException):
    """The process of the writer ends here: no handler catches it, and no later call of the store works."""


class Writer:
    """One process; it runs ``work`` until the first call of the store, and from then on only in ``step``."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.result: object = None
        self.error: AppError | None = None
        self.bug: BaseException | None = None
        self.is_dead = False
        self._work = work
        self._grant: Grant = "go"
        self._resume, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._wait()

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def step(self, grant: Grant = "go") -> None:
        """Let it do the call before which it is parked, and run to the next one or to its end."""
        self._grant = grant
        self._resume.release()
        self._wait()

    def _wait(self) -> None:
        assert self._parked.acquire(timeout=WITHIN_S), "a writer waits for something other than its turn"
        if self._ended:
            self._thread.join()
        if self.bug is not None:
            raise self.bug

    _ended = False

    def _run(self) -> None:
        _here.writer = self
        try:
            self.result = self._work()
        except AppError as error:
            self.error = error
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the test's thread
            self.bug = error
        self._ended = True
        self._parked.release()

    def park(self) -> None:
        """Called before each call of the store."""
        if self.is_dead:
            raise Killed
        self._parked.release()
        self._resume.acquire()
        if self._grant == "die before":
            self.is_dead = True
            raise Killed

    def die_if_due(self) -> None:
        """Called after each call of the store."""
        if self._grant == "die after":
            self.is_dead = True
            raise Killed


@contextmanager
def _turn() -> Iterator[None]:
    writer: Writer | None = getattr(_here, "writer", None)
    if writer is None:
        yield
        return
    writer.park()
    try:
        yield
    finally:
        writer.die_if_due()


class SteppedStore:
    """Delegates to ``store``; each call is one step of its writer."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def get(self, key: str) -> bytes:
        with _turn():
            return self._store.get(key)

    def put(self, key: str, data: bytes) -> None:
        with _turn():
            self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        with _turn():
            return self._store.create(key, data)

    def read_versioned(self, key: str) -> Versioned:
        with _turn():
            return self._store.read_versioned(key)

    def replace(self, key: str, data: bytes, version: str) -> bool:
        with _turn():
            return self._store.replace(key, data, version)

    def exists(self, key: str) -> bool:
        with _turn():
            return self._store.exists(key)

    def list_keys(self, prefix: str) -> list[str]:
        with _turn():
            return self._store.list_keys(prefix)

    def delete(self, key: str) -> None:
        with _turn():
            self._store.delete(key)


def step_requests(events: BaseEventHooks) -> None:
    """Make each request of a client of S3 one step: one call of that store may be several requests."""
    events.register("before-call.s3", _before_request)
    events.register("after-call.s3", _after_request)


def _before_request(**_: Any) -> None:
    writer: Writer | None = getattr(_here, "writer", None)
    if writer is not None:
        writer.park()


def _after_request(**_: Any) -> None:
    writer: Writer | None = getattr(_here, "writer", None)
    if writer is not None:
        writer.die_if_due()
