"""The sign of life of a worker: its progress, written every few seconds, and its ear for a request to stop."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from errors import StoreUnavailable
from schemas.job import Progress
from services.jobs.job import Jobs

BEAT_S = 2.0  # several fit into the time after which a job is lost

log = logging.getLogger(__name__)


class JobStopped(Exception):
    """The job was cancelled, or somebody declared it over."""


class Heartbeat:
    """Beats in a thread of its own while the block runs.

    Args:
        jobs: where progress is told.
        job_id: the job that this process has claimed.
        max_epochs: as many as are allowed.
        clock: tells the time.
    """

    def __init__(self, jobs: Jobs, job_id: str, max_epochs: int, clock: Callable[[], datetime]) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._max_epochs = max_epochs
        self._clock = clock
        self._started_at = clock()
        self._losses: tuple[float, ...] = ()
        self._last_epoch_at = self._started_at
        self._stopped = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._jobs.report(self._job_id, self._progress())
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._beat()  # what the last beat could not know yet

    def epoch(self, validation_loss: float) -> None:
        """Note that an epoch is done.

        Raises:
            JobStopped: the job is not wanted any more.
        """
        self._losses, self._last_epoch_at = (*self._losses, validation_loss), self._clock()
        if self._stopped:
            raise JobStopped

    def validate_wanted(self) -> None:
        """Ask the store whether the job is still wanted.

        Raises:
            JobStopped: it is not.
        """
        if self._stopped or self._jobs.is_stopped(self._job_id):
            raise JobStopped

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            self._beat()

    def _beat(self) -> None:
        try:
            self._jobs.report(self._job_id, self._progress())
            self._stopped = self._stopped or self._jobs.is_stopped(self._job_id)
        except StoreUnavailable as error:  # it may come back before anybody declares us lost
            log.warning("no sign of life of job %s: %s", self._job_id, error.message)

    def _progress(self) -> Progress:
        losses, now = self._losses, self._clock()
        share = len(losses) / self._max_epochs
        elapsed = self._last_epoch_at - self._started_at
        return Progress(
            at=now,
            epoch=len(losses),
            max_epochs=self._max_epochs,
            validation_losses=losses,
            share=share,
            estimated_end=self._started_at + elapsed / share if losses else None,
        )
