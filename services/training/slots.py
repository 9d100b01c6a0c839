"""How many fits run at once in this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from errors import TrainingCapacityExceeded

RETRY_S = 30


class TrainingSlots:
    """Bounds how many models are fitted at once."""

    def __init__(self, count: int) -> None:
        self._slots = threading.BoundedSemaphore(count)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot; TrainingCapacityExceeded where none is free."""
        if not self._slots.acquire(blocking=False):
            raise TrainingCapacityExceeded("another model is being trained; try again later", retry_after_s=RETRY_S)
        try:
            yield
        finally:
            self._slots.release()
