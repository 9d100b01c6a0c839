"""How a worker process is started: as a new program."""

import subprocess
from collections.abc import Sequence
from typing import Protocol


class WorkerProcess(Protocol):
    """A process that works on one job."""

    def wait(self) -> int | None:
        """Wait until it has ended; its exit code, negative for a signal, or None if that is lost."""

    def terminate(self) -> None:
        """Send it SIGTERM."""


class Workers(Protocol):
    """Starts worker processes."""

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

    def start(self, job_id: str, files: Sequence[int]) -> WorkerProcess:
        process = subprocess.Popen([*self._command, job_id], stdin=subprocess.PIPE, pass_fds=files)  # noqa: S603 - our own
        return _Program(process, self._settings)

    def close(self) -> None:
        pass


class _Program:
    def __init__(self, process: "subprocess.Popen[bytes]", settings: bytes) -> None:
        self._process = process
        self._settings = settings

    def wait(self) -> int:
        self._process.communicate(self._settings)
        return self._process.returncode

    def terminate(self) -> None:
        self._process.terminate()
