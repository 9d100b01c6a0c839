"""How a worker process is started: as a new program, or as each kind of work needs."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, Self, TypeVar

KindT = TypeVar("KindT")


class WorkerProcess(Protocol):
    """A process that works on one job."""

    def wait(self) -> int | None:
        """Wait until it has ended; its exit code, negative for a signal, or None if that is lost."""

    def terminate(self) -> None:
        """Send it SIGTERM."""


class Workers(Protocol):
    """Starts worker processes."""

    def of(self, job_id: str) -> "Workers":
        """Those that start the worker of this job; may read the store."""

    def start(self, job_id: str, files: Sequence[int]) -> WorkerProcess:
        """A worker for the job, which inherits the open ``files``."""

    def close(self) -> None:
        """Start no more; those that run go on."""


class Programs:
    """Each worker is a new program.

    Args:
        command: the program; the job's id is added as its last argument.
        settings: its standard input.
    """

    def __init__(self, command: Sequence[str], settings: bytes) -> None:
        self._command = [*command]
        self._settings = settings

    def of(self, job_id: str) -> Self:  # noqa: ARG002 - of the protocol
        return self

    def start(self, job_id: str, files: Sequence[int]) -> WorkerProcess:
        process = subprocess.Popen([*self._command, job_id], stdin=subprocess.PIPE, pass_fds=files)  # noqa: S603 - our own
        return _Program(process, self._settings)

    def close(self) -> None:
        pass


class OfKinds(Generic[KindT]):
    """Workers of several kinds.

    Args:
        kinds: the workers of each kind.
        kind_of: the kind that a job needs, by its id; may read the store.
    """

    def __init__(self, kinds: Mapping[KindT, Workers], kind_of: Callable[[str], KindT]) -> None:
        self._kinds = kinds
        self._kind_of = kind_of

    def of(self, job_id: str) -> Workers:
        return self._kinds[self._kind_of(job_id)]

    def start(self, job_id: str, files: Sequence[int]) -> WorkerProcess:
        return self.of(job_id).start(job_id, files)

    def close(self) -> None:
        for workers in self._kinds.values():
            workers.close()


class _Program:
    def __init__(self, process: "subprocess.Popen[bytes]", settings: bytes) -> None:
        self._process = process
        self._settings = settings

    def wait(self) -> int:
        self._process.communicate(self._settings)
        return self._process.returncode

    def terminate(self) -> None:
        self._process.terminate()
