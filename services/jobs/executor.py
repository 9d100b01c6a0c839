"""Who runs jobs: the protocol."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Submit = Callable[[str], None]
"""Lets a worker start on the job of this id, soon, elsewhere."""


class Executor(Protocol):
    """Starts workers, each in a process of its own."""

    def slot(self) -> AbstractContextManager[Submit]:
        """Room for one more job, asked for before the job exists: what is refused leaves nothing behind.

        Raises:
            TrainingCapacityExceeded: there is none.
        """
        ...

    def close(self) -> None:
        """Stop what runs in this machine; its jobs are lost, and can be retried."""
        ...
