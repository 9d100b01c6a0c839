"""Stand-ins for what is slow or far away; the contract suites hold them to what the real ones do."""

import threading
from pathlib import PurePosixPath

from errors import ArtifactNotFound
from services.storage.store import check_key, check_prefix


class InMemoryArtifactStore:
    """Artifacts in a dictionary; safe to share between threads, gone with the process."""

    def __init__(self) -> None:
        self._artifacts: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            if key not in self._artifacts:
                raise ArtifactNotFound(key)
            return self._artifacts[key]

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._check_writable(key)
            self._artifacts[key] = data

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            self._check_writable(key)
            if key in self._artifacts:
                return False
            self._artifacts[key] = data
            return True

    def exists(self, key: str) -> bool:
        with self._lock:
            return check_key(key) in self._artifacts

    def list_keys(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        with self._lock:
            return sorted(key for key in self._artifacts if key.startswith(prefix))

    def delete(self, key: str) -> None:
        with self._lock:
            self._artifacts.pop(check_key(key), None)

    def _check_writable(self, key: str) -> None:
        folders = {str(folder) for folder in PurePosixPath(check_key(key)).parents}
        if folders & self._artifacts.keys() or any(other.startswith(f"{key}/") for other in self._artifacts):
            raise ValueError(f"{key!r} would be both an artifact and the folder of others")

