"""The protocol of what runs jobs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Submit = Callable[[str], None]
"""Schedules a worker, in another process, for the job of this id."""


OnExit = Callable[[str, str | None], None]
"""Called with what was submitted when its worker has ended, and with why it was lost; None where it was not."""


class Executor(Protocol):
    """Starts one worker process per job."""

    @property
    def name(self) -> str:
        """Goes into the jobs that are submitted here: no other executor takes them up."""

    def slot(self) -> AbstractContextManager[Submit]:
        """Reserve room for one job, before the job is stored: a refused request leaves nothing behind.

        Raises:
            TrainingCapacityExceeded, BacktestCapacityExceeded: there is no room.
        """

    def close(self) -> None:
        """Stop the workers on this machine; their jobs are lost, and can be retried."""
