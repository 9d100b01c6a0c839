"""The heartbeat of a worker: it writes its progress every few seconds, and ends the work if the job should stop.

A cancelled job ends within five seconds in every phase. In a main thread, a signal interrupts the work where it is. In
another thread, or while a library does not return to Python, the job ends all the same, and the work at its next check.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import FrameType, TracebackType
from typing import Protocol, Self

from errors import StoreUnavailable
from models.fitting import FitProgress
from schemas.job import JobEnd, Phase, Progress
from services.jobs.job import cancelled_end

BEAT_S = 2.0  # many fit into the time after which a job is lost
INTERRUPT_S = 0.5  # between two signals: one that comes during an import is ignored
GRACE_S = 1.0  # for the work to stop, before the heartbeat itself ends the job

PHASES: dict[Phase, float] = {
    "fetch": 0.0,
    "prepare": 0.05,
    "fit": 0.1,
    "calibrate": 0.75,
    "test": 0.8,
    "publish": 0.95,
    "evaluate": 0.97,
}
"""The share of a training at which each phase begins."""
BACKTEST_PHASES: dict[Phase, float] = {"fetch": 0.0, "backtest": 0.02}
UNDISTURBED: tuple[Phase, ...] = ("publish",)  # a half-stored model would remain

log = logging.getLogger(__name__)


class JobStopped(BaseException):
    """The job was cancelled, or another process has ended it. No library that catches ``Exception`` swallows it."""


class Reports(Protocol):
    """Where a heartbeat writes, and reads whether to stop: ``services.jobs.job.Jobs`` is one."""

    def report(self, job_id: str, progress: Progress) -> None:
        """Store the progress."""

    def is_stopped(self, job_id: str) -> bool:
        """Whether the work should stop."""

    def end(self, job_id: str, end: JobEnd) -> bool:
        """End the work that does not stop; False if it has ended before."""


@dataclass(frozen=True)
class _Pace:
    """A moment of a fit, on the monotonic clock."""

    at_s: float
    done: FitProgress


class Heartbeat:
    """Writes the heartbeat in its own thread while the ``with`` block runs.

    Args:
        jobs: stores the progress.
        job_id: the job that this process has claimed.
        max_epochs: most epochs allowed; the fit may say fewer.
        clock: the current time.
        monotonic: seconds on a clock that never jumps, for the pace.
        phases: the share of the job at which each of its phases begins.
        beat_s: seconds between two heartbeats, by default BEAT_S.
    """

    def __init__(
        self,
        jobs: Reports,
        job_id: str,
        max_epochs: int,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        phases: Mapping[Phase, float] = PHASES,
        beat_s: float | None = None,
    ) -> None:
        self._phases = phases
        self._beat_s = beat_s or BEAT_S
        self._jobs = jobs
        self._job_id = job_id
        self._max_epochs = max_epochs
        self._clock = clock
        self._monotonic = monotonic
        self._phase: Phase = "fetch"
        self._share = 0.0
        self._losses: tuple[float, ...] = ()
        self._began: _Pace | None = None  # of the current fit
        self._now: _Pace | None = None
        self._stopped_s: float | None = None  # when it was seen that the job should stop
        self._armed = False  # whether the signal may interrupt the main thread
        self._sealed = False
        self._sealing = threading.Lock()
        self._main: int | None = None
        self._before: object = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._report()
        if threading.current_thread() is threading.main_thread():
            self._main = threading.get_ident()
            self._before = signal.signal(signal.SIGUSR1, self._interrupt)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._armed = False
        self._over.set()
        self._thread.join()
        if self._main is not None:
            signal.signal(signal.SIGUSR1, self._before or signal.SIG_DFL)  # type: ignore[arg-type]  # what it returned
        self._report()  # the progress since the last beat

    def phase(self, phase: Phase, done: float = 0.0) -> None:
        """Record that a phase begins, or the share of it that is done.

        Raises:
            JobStopped: the job should stop.
        """
        self._phase = phase
        self._advance(done)
        self._armed = phase not in UNDISTURBED
        self._check()

    def epoch(self, validation_loss: float) -> None:
        """Record a finished epoch.

        Raises:
            JobStopped: the job should stop.
        """
        self._losses = (*self._losses, validation_loss)
        self._check()

    def fit(self, done: FitProgress) -> None:
        """Record how far the fit is.

        Raises:
            JobStopped: the job should stop.
        """
        now = _Pace(self._monotonic(), done)
        if self._began is None or self._began.done.fit != done.fit:
            self._began = now
        self._now = now
        if done.fit == 1:
            self._max_epochs = done.max_epochs
        elapsed_s = now.at_s - self._began.at_s
        of_time = 0.0 if math.isinf(done.seconds_left) else elapsed_s / max(elapsed_s + done.seconds_left, 1e-9)
        of_epochs = done.passes / max(done.max_epochs, 1)
        self._advance((done.fit - 1 + min(max(of_time, of_epochs), 1.0)) / done.fits, "fit")
        self._check()

    def validate_wanted(self) -> None:
        """Read from the store whether the job is still wanted.

        Raises:
            JobStopped: the job should stop.
            StoreUnavailable: from the store.
        """
        self._check()
        if self._jobs.is_stopped(self._job_id):
            raise JobStopped

    def seal(self) -> None:
        """Let the job succeed from here on, whatever is requested: what follows cannot be taken back.

        Raises:
            JobStopped: the job should stop.
        """
        self._armed = False
        with self._sealing:
            if not self._sealed:
                self._check()
            self._sealed = True

    def finish(self) -> None:
        """Record that everything is done."""
        self._share = 1.0

    def _check(self) -> None:
        if self._stopped_s is not None and not self._sealed:
            self._armed = False
            raise JobStopped

    def _advance(self, done: float, phase: Phase | None = None) -> None:
        """Move the share to where so much of a phase is done, never backward."""
        begins = [*self._phases.values(), 1.0]
        place = list(self._phases).index(phase or self._phase)
        self._share = max(self._share, begins[place] + done * (begins[place + 1] - begins[place]))

    def _interrupt(self, _signal: int, frame: FrameType | None) -> None:
        """Stop the work in the main thread, unless it must not be disturbed now."""
        if self._armed and not _is_importing(frame):
            self._armed = False
            raise JobStopped

    def _run(self) -> None:
        while not self._over.wait(self._beat_s if self._stopped_s is None else INTERRUPT_S):
            self._beat()

    def _beat(self) -> None:
        self._report()
        try:
            if self._stopped_s is None and self._jobs.is_stopped(self._job_id):
                self._stopped_s = time.monotonic()
            if self._stopped_s is not None:
                self._stop(time.monotonic() - self._stopped_s)
        except StoreUnavailable as error:
            log.warning("whether job %s is cancelled could not be read: %s", self._job_id, error.message)

    def _stop(self, since_s: float) -> None:
        if self._main is not None:
            signal.pthread_kill(self._main, signal.SIGUSR1)
        if since_s >= GRACE_S:
            with self._sealing:
                if not self._sealed:
                    self._jobs.end(self._job_id, cancelled_end(self._job_id, self._clock()))

    def _report(self) -> None:
        try:
            self._jobs.report(self._job_id, self._progress())
        except StoreUnavailable as error:  # it may be back before the job counts as lost
            log.warning("the heartbeat of job %s was not stored: %s", self._job_id, error.message)

    def _progress(self) -> Progress:
        losses, now = self._losses, self._now
        return Progress(
            at=self._clock(),
            phase=self._phase,
            fit=1 if now is None else now.done.fit,
            epoch=len(losses),
            max_epochs=self._max_epochs,
            validation_losses=losses,
            share=min(self._share, 1.0),
            estimated_end=self._estimated_end(),
        )

    def _estimated_end(self) -> datetime | None:
        """At the pace of the current fit's epochs, and no later than its time allows."""
        began, now = self._began, self._now
        if self._phase != "fit" or began is None or now is None or now.done.passes <= began.done.passes:
            return None
        pace_s = (now.at_s - began.at_s) / (now.done.passes - began.done.passes)
        left_s = min(pace_s * (now.done.max_epochs - now.done.passes), now.done.seconds_left)
        since_s = self._monotonic() - now.at_s
        return self._clock() + timedelta(seconds=max(0.0, left_s - since_s))


def _is_importing(frame: FrameType | None) -> bool:
    """Whether the frame belongs to an import: a library that is imported by half cannot be imported again."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
