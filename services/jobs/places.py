"""Places for jobs, of which there is a fixed number: of one process, or shared by several processes of this machine.

A shared place is a locked file. The operating system ends the lock with its last holder, however that ends: a killed
server leaves no place taken. A worker inherits its place, and keeps it where it outlives its server.
"""

import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from errors import StoreUnavailable


@dataclass(frozen=True)
class Place:
    """A place that is taken.

    Attributes:
        leave: makes it free again.
        files: open files that keep it.
    """

    leave: Callable[[], None]
    files: tuple[int, ...] = ()


class Places(Protocol):
    """The places of one lane of jobs."""

    def take_room(self) -> Place | None:
        """Room for one more job that runs or waits; None where there is none."""

    def take_turn(self) -> Place | None:
        """A place for one more job that runs; None where there is none."""

    def take_job(self, job_id: str) -> Place | None:
        """The job itself; None where it already runs, or is in a queue."""


class OwnPlaces:
    """Places of this process.

    Args:
        running: how many jobs may run.
        waiting: how many more may wait.
    """

    def __init__(self, running: int, waiting: int) -> None:
        self._room, self._turns = threading.BoundedSemaphore(running + waiting), threading.BoundedSemaphore(running)
        self._jobs: set[str] = set()
        self._lock = threading.Lock()

    def take_room(self) -> Place | None:
        return Place(self._room.release) if self._room.acquire(blocking=False) else None

    def take_turn(self) -> Place | None:
        return Place(self._turns.release) if self._turns.acquire(blocking=False) else None

    def take_job(self, job_id: str) -> Place | None:
        with self._lock:
            if job_id in self._jobs:
                return None
            self._jobs.add(job_id)
        return Place(partial(self._jobs.discard, job_id))


class SharedPlaces:
    """Places of every process that names the same folder.

    Args:
        folder: of the locked files, made when it is first needed.
        running: how many jobs may run.
        waiting: how many more may wait.
    """

    def __init__(self, folder: Path, running: int, waiting: int) -> None:
        self._folder = folder
        self._running, self._room = running, running + waiting

    def take_room(self) -> Place | None:
        return self._take_one("room", self._room)

    def take_turn(self) -> Place | None:
        return self._take_one("turn", self._running)

    def take_job(self, job_id: str) -> Place | None:
        file = self._folder / f"job-{job_id}.lock"
        descriptor = _locked(file)
        return None if descriptor is None else Place(partial(_remove, file, descriptor), (descriptor,))

    def _take_one(self, name: str, number: int) -> Place | None:
        for place in range(number):
            descriptor = _locked(self._folder / f"{name}-{place}.lock")
            if descriptor is not None:
                return Place(partial(os.close, descriptor), (descriptor,))
        return None


def _locked(file: Path) -> int | None:
    """The open file, locked; None where another holds the lock, in this process or in another one.

    Raises:
        StoreUnavailable: the file cannot be opened or locked.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise
            if _is_at(file, descriptor):
                return descriptor
            os.close(descriptor)  # its last holder has removed it since it was opened here
    except BlockingIOError:
        return None
    except OSError as error:
        raise StoreUnavailable(f"cannot lock {file}: {error.strerror or error}") from error


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(file: Path, descriptor: int) -> None:
    file.unlink(missing_ok=True)
    os.close(descriptor)
