"""A while without requests to a store that has just failed: it may take long to fail again, and answers wait."""

import time

PAUSE_S = 10.0


class Pause:
    """Lasts for ``PAUSE_S`` after it has begun; ``reason`` is that of the last one."""

    def __init__(self) -> None:
        self.reason = ""
        self._until = 0.0

    def begin(self, reason: str = "") -> None:
        self.reason = reason
        self._until = time.monotonic() + PAUSE_S

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self._until
