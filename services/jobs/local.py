"""Runs jobs in processes of this machine, up to a limit; more jobs wait, up to another limit."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property, partial

from errors import StoreUnavailable, TooManyRequests, TrainingCapacityExceeded
from services.jobs.executor import OnExit, Submit
from services.jobs.job import Jobs, lost_end, record_end
from services.jobs.places import OwnPlaces, Place, Places
from services.jobs.workers import WorkerProcess, Workers
from telemetry.measures import JOBS_RUNNING, JOBS_WAITING, NO_METER, Meter

RETRY_AFTER_S = 30
TURN_S = 0.2  # between two looks for a turn that another process may have given back

log = logging.getLogger(__name__)


class LocalExecutor:
    """Runs one worker per job, as many at once as ``max_running``.

    Several processes of one installation share these limits if they share their ``places``. A job that is in the queue
    of one of them is not taken up by another.

    Args:
        workers: starts them.
        jobs: stores the end of a job whose worker died.
        clock: the current time.
        meter: counts the jobs that end, run and wait.
        max_running: workers at once.
        max_waiting: jobs that may wait for one.
        name: called when the name is first needed.
        refusal: the error where there is no room.
        work: what the jobs are, for that error.
        places: for the jobs; by default those of this process.
        on_exit: called when a worker has ended; by default, a job whose worker died ends as lost.
    """

    def __init__(
        self,
        workers: Workers,
        jobs: Jobs,
        clock: Callable[[], datetime],
        meter: Meter = NO_METER,
        *,
        max_running: int,
        max_waiting: int,
        name: Callable[[], str] = lambda: "local",
        refusal: type[TooManyRequests] = TrainingCapacityExceeded,
        work: str = "trainings",
        places: Places | None = None,
        on_exit: OnExit | None = None,
    ) -> None:
        self._on_exit = on_exit or self._end_job
        self._refusal = refusal
        self._work = work
        self._workers = workers
        self._jobs = jobs
        self._clock = clock
        self._meter = meter
        self._places = places or OwnPlaces(max_running, max_waiting)
        self._threads = ThreadPoolExecutor(max_running, thread_name_prefix="job")
        self._running: set[WorkerProcess] = set()
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
        room = self._places.take_room()
        if room is None:
            raise self._refusal(
                f"too many {self._work} are running or waiting; try again later", retry_after_s=RETRY_AFTER_S
            )
        submitted = False

        def submit(job_id: str) -> None:
            nonlocal submitted
            job = self._places.take_job(job_id)
            if job is None:
                log.debug("job %s is in a queue", job_id)
                return
            self._count(waiting=+1)
            self._threads.submit(self._run, job_id, job).add_done_callback(partial(self._leave, job, room))
            submitted = True

        try:
            yield submit
        finally:
            if not submitted:
                room.leave()

    def close(self) -> None:
        """Stop every worker; waiting jobs stay in the store."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.terminate()
            self._workers.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _run(self, job_id: str, job: Place) -> None:
        try:
            turn = self._turn()
        except StoreUnavailable:
            job.leave()
            raise
        finally:
            self._count(waiting=-1, running=+1)
        try:
            self._watch(job_id, job, turn)
        finally:
            if turn is not None:
                turn.leave()

    def _turn(self) -> Place | None:
        """A place to run in, which another process may still have; None once this executor is closed."""
        while not self._closed:
            if (turn := self._places.take_turn()) is not None:
                return turn
            time.sleep(TURN_S)
        return None

    def _watch(self, job_id: str, job: Place, turn: Place | None) -> None:
        try:
            with self._started(job_id, turn) as process:
                code = None if process is None else process.wait()
        finally:
            job.leave()  # before what follows the exit: it may submit the job once more
        if process is None:
            return
        # a worker that ends in order has recorded the end itself, failures included
        known = "an unknown exit code" if code is None else f"exit code {code}"
        self._on_exit(job_id, None if code == 0 else f"the worker ended with {known}")

    def _end_job(self, job_id: str, why: str | None) -> None:
        if why is not None:
            self._jobs.end(job_id, lost_end(self._clock(), why))
        record_end(self._meter, self._jobs.status(job_id, self._clock()))

    def _leave(self, job: Place, room: Place, future: "Future[None]") -> None:
        if future.cancelled():
            self._count(waiting=-1)
            job.leave()
        else:
            self._count(running=-1)
        room.leave()
        error = None if future.cancelled() else future.exception()
        # a job that was not claimed is taken up again, and one without a heartbeat counts as lost
        if isinstance(error, StoreUnavailable):
            log.warning("how a job ended could not be read or stored: %s", error.message)
        elif error is not None:
            log.error("watching a worker failed", exc_info=error)

    def _count(self, *, waiting: int = 0, running: int = 0) -> None:
        with self._counting:
            self._n_waiting += waiting
            self._n_running += running
            self._meter.record(JOBS_WAITING, self._n_waiting)
            self._meter.record(JOBS_RUNNING, self._n_running)

    @contextmanager
    def _started(self, job_id: str, turn: Place | None) -> Iterator[WorkerProcess | None]:
        workers = self._workers.of(job_id)  # not with the lock, for which the end of the server waits
        with self._lock:
            if self._closed or turn is None:
                yield None
                return
            process = workers.start(job_id, turn.files)
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)
