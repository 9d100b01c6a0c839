"""Metrics of the operations of any store."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from at_once import may_take_long
from errors import AppError, ArtifactNotFound
from services.storage.store import ArtifactStore, Versioned
from telemetry.measures import STORE_OPERATIONS, STORE_SECONDS, Meter


class InstrumentedStore:
    """Delegates to ``store`` and measures every operation; a missing key counts as ``absent``, not as a failure."""

    def __init__(self, store: ArtifactStore, meter: Meter) -> None:
        self._store = store
        self._meter = meter

    def get(self, key: str) -> bytes:
        with self._measured("get"):
            return self._store.get(key)

    def put(self, key: str, data: bytes) -> None:
        with self._measured("put"):
            self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        with self._measured("create"):
            return self._store.create(key, data)

    def read_versioned(self, key: str) -> Versioned:
        with self._measured("get"):
            return self._store.read_versioned(key)

    def replace(self, key: str, data: bytes, version: str) -> bool:
        with self._measured("replace"):
            return self._store.replace(key, data, version)

    def exists(self, key: str) -> bool:
        with self._measured("exists"):
            return self._store.exists(key)

    def list_keys(self, prefix: str) -> list[str]:
        with self._measured("list"):
            return self._store.list_keys(prefix)

    def delete(self, key: str) -> None:
        with self._measured("delete"):
            self._store.delete(key)

    @contextmanager
    def _measured(self, operation: str) -> Iterator[None]:
        may_take_long()
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
            outcome = AppError.code  # a bug
            raise
        finally:
            self._meter.record(STORE_OPERATIONS, operation=operation, outcome=outcome)
            self._meter.record(STORE_SECONDS, time.perf_counter() - started, operation=operation)
