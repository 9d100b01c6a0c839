"""Whether heartbeats change, as one reader sees it by a clock of its own that never jumps."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

MOST_JOBS = 1000  # remembered; far more than run at once


class Liveness:
    """The newest heartbeat that this reader has seen of each job, and when.

    Clocks of two machines differ, and a wall clock can be set: so the time in a heartbeat is only compared with that of
    the heartbeat before, for equality.

    Args:
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: OrderedDict[str, tuple[datetime, float]] = OrderedDict()
        self._lock = threading.Lock()

    def silence_s(self, job_id: str, heartbeat: datetime) -> float | None:
        """Seconds since this reader first saw this heartbeat of the job; None if it has seen none of the job yet."""
        now = self._monotonic()
        with self._lock:
            known = self._seen.get(job_id)
            if known is None or known[0] != heartbeat:
                self._seen[job_id] = heartbeat, now
            self._seen.move_to_end(job_id)
            if len(self._seen) > MOST_JOBS:
                self._seen.popitem(last=False)
        if known is None:
            return None
        return now - known[1] if known[0] == heartbeat else 0.0

    def forget(self, job_id: str) -> None:
        """Forget a job that has ended."""
        with self._lock:
            self._seen.pop(job_id, None)
