"""Runs jobs in processes of this machine, up to a limit; more jobs wait, up to another limit."""

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property

from errors import TooManyRequests, TrainingCapacityExceeded
from services.jobs.executor import OnExit, Submit
from services.jobs.job import Jobs, lost_end, record_end
from telemetry.measures import JOBS_RUNNING, JOBS_WAITING, NO_METER, Meter

RETRY_AFTER_S = 30

log = logging.getLogger(__name__)


class LocalExecutor:
    """Runs one command per job, as many at once as ``max_running``.

    Args:
        command: the worker; the job's id is added as its last argument.
        settings: the worker's standard input.
        jobs: stores the end of a job whose worker died.
        clock: the current time.
        meter: counts the jobs that end, run and wait.
        max_running: workers at once.
        max_waiting: jobs that may wait for one.
        name: called when the name is first needed.
        refusal: the error where there is no room.
        work: what the jobs are, for that error.
        on_exit: called when a worker has ended; by default, a job whose worker died ends as lost.
    """

    def __init__(
        self,
        command: Sequence[str],
        settings: bytes,
        jobs: Jobs,
        clock: Callable[[], datetime],
        meter: Meter = NO_METER,
        *,
        max_running: int,
        max_waiting: int,
        name: Callable[[], str] = lambda: "local",
        refusal: type[TooManyRequests] = TrainingCapacityExceeded,
        work: str = "trainings",
        on_exit: OnExit | None = None,
    ) -> None:
        self._on_exit = on_exit or self._end_job
        self._refusal = refusal
        self._work = work
        self._command = [*command]
        self._settings = settings
        self._jobs = jobs
        self._clock = clock
        self._meter = meter
        self._room = threading.BoundedSemaphore(max_running + max_waiting)
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="job")
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._n_waiting, self._n_running = 0, 0
        self._counting = threading.Lock()
        self._name = name
        self._count()

    @cached_property
    def name(self) -> str:
        return self._name()

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        if not self._room.acquire(blocking=False):
            raise self._refusal(
                f"too many {self._work} are running or waiting; try again later", retry_after_s=RETRY_AFTER_S
            )
        submitted = False

        def submit(job_id: str) -> None:
            nonlocal submitted
            self._count(waiting=+1)
            self._threads.submit(self._run, job_id).add_done_callback(self._leave)
            submitted = True

        try:
            yield submit
        finally:
            if not submitted:
                self._room.release()

    def close(self) -> None:
        """Stop every worker; waiting jobs stay in the store."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.terminate()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _run(self, job_id: str) -> None:
        self._count(waiting=-1, running=+1)
        with self._started(job_id) as process:
            if process is None:
                return
            process.communicate(self._settings)
        died = process.returncode != 0  # else the worker has recorded the end itself, failures included
        self._on_exit(job_id, f"the worker ended with exit code {process.returncode}" if died else None)

    def _end_job(self, job_id: str, why: str | None) -> None:
        if why is not None:
            self._jobs.end(job_id, lost_end(self._clock(), why))
        record_end(self._meter, self._jobs.status(job_id, self._clock()))

    def _leave(self, future: "Future[None]") -> None:
        if future.cancelled():
            self._count(waiting=-1)
        else:
            self._count(running=-1)
        self._room.release()
        if not future.cancelled() and (error := future.exception()) is not None:
            log.error("watching a worker failed", exc_info=error)  # without a heartbeat, its job will count as lost

    def _count(self, *, waiting: int = 0, running: int = 0) -> None:
        with self._counting:
            self._n_waiting += waiting
            self._n_running += running
            self._meter.record(JOBS_WAITING, self._n_waiting)
            self._meter.record(JOBS_RUNNING, self._n_running)

    @contextmanager
    def _started(self, job_id: str) -> Iterator["subprocess.Popen[bytes] | None"]:
        with self._lock:
            if self._closed:
                yield None
                return
            process = subprocess.Popen([*self._command, job_id], stdin=subprocess.PIPE)  # noqa: S603 - our own worker
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)
