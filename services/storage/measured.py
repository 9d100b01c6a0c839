"""A store whose operations are counted and timed, whichever store it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from errors import AppError, ArtifactNotFound
from services.storage.store import ArtifactStore
from telemetry.measures import STORE_OPERATIONS, STORE_SECONDS, Meter


class InstrumentedStore:
    """Does what ``store`` does, and tells the meter; that nothing is stored under a key is no failure."""

    def __init__(self, store: ArtifactStore, meter: Meter) -> None:
        self._store = store
        self._meter = meter

    def get(self, key: str) -> bytes:
        """What was last put under the key; see ``ArtifactStore``."""
        with self._measured("get"):
            return self._store.get(key)

    def put(self, key: str, data: bytes) -> None:
        """Store the data, replacing what was there; see ``ArtifactStore``."""
        with self._measured("put"):
            self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Store the data only where nothing is stored yet; see ``ArtifactStore``."""
        with self._measured("create"):
            return self._store.create(key, data)

    def exists(self, key: str) -> bool:
        """Whether something is stored under the key."""
        with self._measured("exists"):
            return self._store.exists(key)

    def list_keys(self, prefix: str) -> list[str]:
        """Every key that starts with the prefix, ascending; see ``ArtifactStore``."""
        with self._measured("list"):
            return self._store.list_keys(prefix)

    def delete(self, key: str) -> None:
        """Forget what is stored under the key."""
        with self._measured("delete"):
            self._store.delete(key)

    @contextmanager
    def _measured(self, operation: str) -> Iterator[None]:
        started, outcome = time.perf_counter(), "ok"
        try:
            yield
        except ArtifactNotFound:
            outcome = "absent"
            raise
        except AppError as error:
            outcome = error.code
            raise
        except BaseException:
            outcome = AppError.code  # a mistake of ours
            raise
        finally:
            self._meter.record(STORE_OPERATIONS, operation=operation, outcome=outcome)
            self._meter.record(STORE_SECONDS, time.perf_counter() - started, operation=operation)
