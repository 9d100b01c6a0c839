"""The heartbeat of a worker: it writes its progress every few seconds, and reads whether the job should stop."""

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

from errors import StoreUnavailable
from models.fitting import FitProgress
from schemas.job import Progress
from services.jobs.job import Jobs

BEAT_S = 2.0  # several fit into the time after which a job is lost

log = logging.getLogger(__name__)


class JobStopped(Exception):
    """The job was cancelled, or another process has ended it."""


class Heartbeat:
    """Writes the heartbeat in its own thread while the ``with`` block runs.

    Args:
        jobs: stores the progress.
        job_id: the job that this process has claimed.
        max_epochs: most epochs allowed; the fit may say fewer.
        clock: the current time.
        on_stopped: called from the thread of the heartbeat once the job should stop.
    """

    def __init__(
        self,
        jobs: Jobs,
        job_id: str,
        max_epochs: int,
        clock: Callable[[], datetime],
        on_stopped: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_stopped = on_stopped
        self._jobs = jobs
        self._job_id = job_id
        self._max_epochs = max_epochs
        self._clock = clock
        self._losses: tuple[float, ...] = ()
        self._began: tuple[datetime, float] | None = None  # when the fit did, and with how many passes
        self._now: tuple[datetime, float] = clock(), 0.0
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
        self._report()  # the progress since the last beat

    def epoch(self, validation_loss: float) -> None:
        """Record a finished epoch.

        Raises:
            JobStopped: the job should stop.
        """
        self._losses = (*self._losses, validation_loss)
        if self._stopped:
            raise JobStopped

    def fit(self, done: FitProgress) -> None:
        """Record how far the fit is.

        Raises:
            JobStopped: the job should stop.
        """
        self._max_epochs = done.max_epochs
        self._now = self._clock(), done.passes
        self._began = self._began or self._now
        if self._stopped:
            raise JobStopped

    def validate_wanted(self) -> None:
        """Read from the store whether the job is still wanted.

        Raises:
            JobStopped: the job should stop.
            StoreUnavailable: from the store.
        """
        if self._stopped or self._jobs.is_stopped(self._job_id):
            raise JobStopped

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            self._beat()

    def _beat(self) -> None:
        self._report()
        try:
            self._stopped = self._stopped or self._jobs.is_stopped(self._job_id)
        except StoreUnavailable as error:
            log.warning("whether job %s is cancelled could not be read: %s", self._job_id, error.message)
        if self._stopped:
            self._on_stopped()

    def _report(self) -> None:
        try:
            self._jobs.report(self._job_id, self._progress())
        except StoreUnavailable as error:  # it may be back before the job counts as lost
            log.warning("the heartbeat of job %s was not stored: %s", self._job_id, error.message)

    def _progress(self) -> Progress:
        losses = self._losses
        share = max(len(losses), self._now[1]) / self._max_epochs
        return Progress(
            at=self._clock(),
            epoch=len(losses),
            max_epochs=self._max_epochs,
            validation_losses=losses,
            share=min(share, 1.0),
            estimated_end=self._estimated_end(),
        )

    def _estimated_end(self) -> datetime | None:
        if self._began is None:
            return None
        (began_at, passes_before), (at, passes) = self._began, self._now
        if passes <= passes_before:
            return None
        return at + (at - began_at) / (passes - passes_before) * (self._max_epochs - passes)
