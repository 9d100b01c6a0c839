"""The state of long trainings on this machine's disk, for the retry of a job whose worker died."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path

from errors import ArtifactNotFound, StoreUnavailable
from models.base import Bars
from schemas.train import TrainRequest
from services.evaluation.splits import Split
from services.storage.store import LocalArtifactStore

KEPT_FOR = timedelta(days=7)
SUFFIX = ".safetensors"
PROGRAM = Path(__file__).parents[2] / "models"  # what decides the weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredCheckpoint:
    """The state of one training; a disk that fails costs the checkpoint, not the training."""

    store: LocalArtifactStore
    key: str

    def load(self) -> bytes | None:
        try:
            return self.store.get(self.key)
        except ArtifactNotFound:
            return None
        except StoreUnavailable as error:
            log.warning("the training begins again: %s", error.message)
            return None

    def save(self, state: bytes) -> None:
        try:
            self.store.put(self.key, state)
        except StoreUnavailable as error:
            log.warning("the state of the training was not stored: %s", error.message)

    def remove(self) -> None:
        try:
            self.store.delete(self.key)
        except StoreUnavailable as error:
            log.warning("the state of the training was not deleted: %s", error.message)


class Checkpoints:
    """A file for each training that has not ended.

    Args:
        folder: where the files are; created when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = LocalArtifactStore(folder)

    def of(
        self,
        request: TrainRequest,
        start: bytes | None,
        libraries: Mapping[str, str],
        series: Iterable[tuple[str, Bars, Split]],
    ) -> StoredCheckpoint:
        """The checkpoint of this request on these prices with this version of the program.

        Args:
            request: the training.
            start: the weights that it begins with.
            libraries: versions of what can change a model.
            series: ticker, bars and blocks of each part, in the order of the fit.
        """
        digest = sha256(_program())
        digest.update(f"{request.model_dump_json()} {sorted(libraries.items())}".encode())
        digest.update(sha256(start or b"").digest())
        for ticker, bars, split in series:
            digest.update(f"{ticker} {bars.shape} {split}".encode())
            digest.update(bars.astype("<f8").tobytes())
        return StoredCheckpoint(self._store, f"{digest.hexdigest()}{SUFFIX}")

    def remove_old(self, now: datetime) -> None:
        """Delete what no retry has asked for in a week."""
        for path in self._folder.glob(f"*{SUFFIX}"):
            try:
                if now - datetime.fromtimestamp(path.stat().st_mtime, UTC) > KEPT_FOR:
                    path.unlink()
            except OSError as error:  # another worker was faster, or the disk fails
                log.warning("an old checkpoint was not deleted: %s", error.strerror)


@cache
def _program() -> bytes:
    """A digest of the code that fits models."""
    digest = sha256()
    for path in sorted(PROGRAM.rglob("*.py")):
        digest.update(path.relative_to(PROGRAM).as_posix().encode() + path.read_bytes())
    return digest.digest()
