"""The protocol of an artifact store, and the store in a local folder."""

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import Protocol

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_random

from errors import ArtifactNotFound, StoreUnavailable

MAX_KEY_LENGTH = 500  # S3 allows 1024 bytes, the prefix included
MAX_SEGMENT_LENGTH = 200  # file systems allow 255 bytes

# A segment never starts with a dot: that rules out "." and "..", and leaves hidden names to our temporary files.
_SEGMENT = rf"[A-Za-z0-9_^][A-Za-z0-9._=^-]{{0,{MAX_SEGMENT_LENGTH - 1}}}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")
_PREFIX = re.compile(rf"({_SEGMENT}/)*({_SEGMENT})?")

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
LOCK = ".lock"  # hidden: no key may begin with a dot
LOCK_WITHIN_S = 10.0
RETRY_AFTER_S = 1


@dataclass(frozen=True)
class Versioned:
    """Data and the version that ``replace`` compares; only the store that returned a version can read it."""

    data: bytes
    version: str


class ArtifactStore(Protocol):
    """Whole artifacts under string keys, such as ``models/3f2a/card.json``.

    Keys are built from validated parts, so a malformed one is a bug and raises
    ``ValueError`` in every method (see ``check_key``). A key is never also the
    folder of other keys: never ``a`` and ``a/b``.

    Every method raises ``StoreUnavailable`` where the store denies, fails, cannot
    be reached or has no space left.
    """

    def get(self, key: str) -> bytes:
        """The data under the key.

        Raises:
            ArtifactNotFound: nothing is stored under the key.
        """

    def put(self, key: str, data: bytes) -> None:
        """Store the data, replacing earlier data; a reader sees the old or the new data whole, never a part."""

    def create(self, key: str, data: bytes) -> bool:
        """Store the data only where nothing is stored yet; False where something is.

        Of all threads, processes and machines that try, exactly one gets True.
        """

    def read_versioned(self, key: str) -> Versioned:
        """The data under the key, with the version that ``replace`` needs.

        Raises:
            ArtifactNotFound: nothing is stored under the key.
        """

    def replace(self, key: str, data: bytes, version: str) -> bool:
        """Store the data only where they replace this version; False where others or none are stored now.

        Of all threads, processes and machines that replace one version, exactly one gets True, also where a crash or
        a lost answer made it try twice. Equal data may have equal versions. A key that is replaced is otherwise only
        created: a ``put`` or ``delete`` at the same moment may overwrite the change or be overwritten.
        """

    def exists(self, key: str) -> bool:
        """Whether something is stored under the key."""

    def list_keys(self, prefix: str) -> list[str]:
        """Every key that starts with the prefix, ascending.

        The prefix is plain text: ``models/a`` finds ``models/a/card.json`` and
        ``models/ab/card.json``, ``models/a/`` only the former, ``""`` everything.
        """

    def delete(self, key: str) -> None:
        """Delete the data under the key; a missing key is not an error."""


def is_key(text: str) -> bool:
    """Whether the text may be a key.

    >>> [is_key(text) for text in ("models/3f2a/card.json", "prices/^BVSP.csv", "a/../b", "/a", "a/", "")]
    [True, True, False, False, False, False]
    """
    return len(text) <= MAX_KEY_LENGTH and _KEY.fullmatch(text) is not None


def check_key(key: str) -> str:
    """The key, if it is well-formed.

    Raises:
        ValueError: the key is not ``/``-separated segments of letters, digits and ``._=^-`` without a leading ``.=-``.
    """
    if not is_key(key):
        raise ValueError(f"not an artifact key: {key!r}")
    return key


def check_prefix(prefix: str) -> str:
    """The prefix, if it is empty or a key can start with it.

    Raises:
        ValueError: no key can start with it.
    """
    if len(prefix) > MAX_KEY_LENGTH or _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"not the beginning of an artifact key: {prefix!r}")
    return prefix


class LocalArtifactStore:
    """Artifacts as files below one folder, which the first ``put`` or ``create`` makes.

    Symbolic links below the folder are refused: one could lead outside. Files
    survive a crash after the call has returned; a crash during a call may leave a
    hidden temporary file, which no method lists; see ``remove_temporary_files``. ``replace`` locks the folder for
    other processes; the kernel frees the lock of one that dies. Needs a file system
    with hard links and ``flock``.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str) -> bytes:
        with _reported("read", key):
            path = self._path(check_key(key))
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise ArtifactNotFound(key) from None

    def put(self, key: str, data: bytes) -> None:
        with _reported("write", key):
            path = self._path_to_write(check_key(key))
            with _staged(path.parent, data) as temporary:
                temporary.replace(path)
            _sync_folder(path.parent)

    def create(self, key: str, data: bytes) -> bool:
        with _reported("create", key):
            path = self._path_to_write(check_key(key))
            with _staged(path.parent, data) as temporary:
                try:
                    path.hardlink_to(temporary)  # unlike O_EXCL, the file is whole when its name appears
                except FileExistsError:
                    return False
            _sync_folder(path.parent)
            return True

    def read_versioned(self, key: str) -> Versioned:
        data = self.get(key)
        return Versioned(data, sha256(data).hexdigest())

    def replace(self, key: str, data: bytes, version: str) -> bool:
        check_key(key)
        if not self._root.is_dir():
            return False
        with _reported("replace", key), locked(self._root):
            try:
                current = self.read_versioned(key)
            except ArtifactNotFound:
                return False
            if current.version != version:
                return False
            self.put(key, data)
            return True

    def exists(self, key: str) -> bool:
        with _reported("look up", key):
            path = self._path(check_key(key))
            try:
                return S_ISREG(path.stat().st_mode)
            except (FileNotFoundError, NotADirectoryError):
                return False

    def list_keys(self, prefix: str) -> list[str]:
        folder = check_prefix(prefix).rpartition("/")[0]
        with _reported("list", prefix):
            files = _files_below(self._path(folder))
            keys = (path.relative_to(self._root).as_posix() for path in files)
            return sorted(key for key in keys if key.startswith(prefix) and is_key(key))

    def delete(self, key: str) -> None:
        # the folder stays: removing it would race with a put that has just made it
        with _reported("delete", key):
            path = self._path(check_key(key))
            if not path.is_dir():
                with suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()

    def _path(self, key: str) -> Path:
        if self._root.exists() and not self._root.is_dir():
            raise StoreUnavailable("the artifact folder is not a folder")
        path = self._root / key
        if any(step.is_symlink() for step in self._steps(path)):
            raise StoreUnavailable(f"the artifact folder holds a symbolic link on the way to {key!r}", key=key)
        return path

    def _path_to_write(self, key: str) -> Path:
        path = self._path(key)
        if path.is_dir() or any(step.is_file() for step in self._steps(path.parent)):
            raise ValueError(f"{key!r} would be both an artifact and the folder of others")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _steps(self, path: Path) -> Iterator[Path]:
        """The path and its folders, up to but without the root."""
        while path != self._root:
            yield path
            path = path.parent


@contextmanager
def _reported(operation: str, key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # strerror only: the whole message would reveal the server's path
        reason = error.strerror or type(error).__name__
        message = f"the artifact folder could not {operation} {key!r}: {reason}"
        raise StoreUnavailable(message, operation=operation, key=key) from error


@contextmanager
def _staged(folder: Path, data: bytes) -> Iterator[Path]:
    """A hidden file of the folder with the data, synced to disk; deleted afterwards unless renamed."""
    temporary = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("xb") as file:  # not tempfile, whose files only their owner can read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporary_files(folder: Path, before: datetime) -> int:
    """Delete what killed writers have left in this folder and those below it; how many files.

    A file that has changed since ``before`` stays: its writer may be at work.

    Raises:
        StoreUnavailable: a file cannot be deleted.
    """
    n_removed = 0
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names if _TEMPORARY.fullmatch(name)):
            with _reported("delete", path.name), suppress(FileNotFoundError):
                if path.lstat().st_mtime < before.timestamp():
                    path.unlink()
                    n_removed += 1
    return n_removed


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The only thread of all processes in this block for the folder; the lock ends with the process.

    Raises:
        StoreUnavailable: another process has had the lock for ``LOCK_WITHIN_S``.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        _lock(descriptor)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile has the descriptor too
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    # not a blocking call: a holder that is stopped or hangs would stop every writer with it
    attempts = Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        wait=wait_random(0.001, 0.01),
        stop=stop_after_delay(LOCK_WITHIN_S),
    )
    try:
        attempts(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except RetryError as error:
        message = f"another process has locked the folder for {LOCK_WITHIN_S:.0f} s"
        raise StoreUnavailable(message, retry_after_s=RETRY_AFTER_S) from error


def _sync_folder(folder: Path) -> None:
    """Sync the names in the folder to disk; the files' own fsync does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files_below(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
