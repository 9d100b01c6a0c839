"""Which jobs end when no caller waits for them any more."""

import threading

from cachetools import LRUCache

MOST_JOBS = 1000  # remembered; far more than run at once


class Waiters:
    """How many callers of this process wait for each job that it submitted.

    A job whose id a caller has been given goes on without callers: it can be read later. So does a job of another
    process, whose callers are unknown here.
    """

    def __init__(self) -> None:
        self._waiting: LRUCache[str, int | None] = LRUCache(MOST_JOBS)  # None: a caller knows the id
        self._lock = threading.Lock()

    def begin(self, job_id: str) -> None:
        """Count the caller of a new job."""
        with self._lock:
            self._waiting[job_id] = 1

    def join(self, job_id: str) -> bool:
        """Count one more caller; False if the job is not of this process, or its callers have left."""
        with self._lock:
            if job_id not in self._waiting:
                return False
            n_waiting = self._waiting[job_id]
            self._waiting[job_id] = None if n_waiting is None else n_waiting + 1
            return True

    def leave(self, job_id: str) -> bool:
        """Count a caller that waits no more; True if it was the last one, and no caller knows the id."""
        with self._lock:
            n_waiting = self._waiting.get(job_id)
            if n_waiting is None:
                return False
            self._waiting[job_id] = n_waiting - 1
            if n_waiting > 1:
                return False
            del self._waiting[job_id]
            return True

    def publish(self, job_id: str) -> None:
        """A caller is given the id."""
        with self._lock:
            if job_id in self._waiting:
                self._waiting[job_id] = None
