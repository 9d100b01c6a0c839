"""The executor with small commands for workers; ``tests/test_worker.py`` has the real one."""

import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from errors import StoreUnavailable, TrainingCapacityExceeded
from services.jobs.job import Jobs
from services.jobs.local import LocalExecutor
from services.jobs.places import OwnPlaces, Place, SharedPlaces
from services.jobs.workers import Programs
from services.training.submission import resume_waiting
from telemetry.measures import JOBS_RUNNING, JOBS_WAITING, NO_METER, Meter
from tests.fakes import InMemoryArtifactStore, RecordingMeter, job_spec
from tests.processes import wait_until

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
FIRST, SECOND, THIRD = (f"2024071{day}t220000-1a2b3c4d" for day in range(3))
FOURTH = "20240719t220000-1a2b3c4e"
TIMEOUT_S = 20.0

Start = Callable[..., LocalExecutor]


@pytest.fixture
def jobs() -> Jobs:
    jobs = Jobs(InMemoryArtifactStore())
    for job_id in (FIRST, SECOND, THIRD):
        jobs.add(job_spec(job_id, NOW))
    return jobs


@pytest.fixture
def start(jobs: Jobs) -> Iterator[Start]:
    """Starts executors of one worker and ``max_waiting`` places, and closes them."""
    started: list[LocalExecutor] = []

    def start(source: str, max_waiting: int = 2, meter: Meter = NO_METER) -> LocalExecutor:
        command = [sys.executable, "-c", source]
        executor = LocalExecutor(
            Programs(command, b"settings"), jobs, lambda: NOW, meter, max_running=1, max_waiting=max_waiting
        )
        started.append(executor)
        return executor

    yield start
    for executor in started:
        executor.close()


def submit(executor: LocalExecutor, job_id: str) -> None:
    with executor.slot() as submit:
        submit(job_id)


def eventually(holds: Callable[[], bool]) -> None:
    wait_until(holds, TIMEOUT_S, "the executor")


def test_a_worker_gets_its_job_and_the_settings(start: Start, tmp_path: Path) -> None:
    written = tmp_path / "written"
    executor = start(f"import sys; open({str(written)!r}, 'w').write(sys.argv[1] + ' ' + sys.stdin.read())")

    submit(executor, FIRST)

    eventually(lambda: written.exists() and written.read_text() == f"{FIRST} settings")


def test_a_worker_that_dies_leaves_a_lost_job(start: Start, jobs: Jobs) -> None:
    executor = start("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    submit(executor, FIRST)

    eventually(lambda: jobs.status(FIRST, NOW).state == "lost")
    error = jobs.status(FIRST, NOW).error
    assert error is not None
    assert "-9" in error.detail


def test_a_job_whose_worker_and_executor_met_a_store_that_is_down_is_run_by_the_next_look(
    jobs: Jobs, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, real, failed = tmp_path / "began", jobs.end, threading.Event()
    executor = start(f"open({str(began)!r}, 'a').write('x'); raise SystemExit(1)")
    jobs.add(job_spec(FOURTH, NOW).model_copy(update={"executor": executor.name}))

    def down(*_: object) -> bool:
        failed.set()
        raise StoreUnavailable("down")

    monkeypatch.setattr(jobs, "end", down)
    submit(executor, FOURTH)
    assert failed.wait(TIMEOUT_S)
    assert jobs.status(FOURTH, NOW).state == "queued"
    monkeypatch.setattr(jobs, "end", real)

    def is_lost() -> bool:
        resume_waiting(jobs, executor, NOW, since=NOW)
        return jobs.status(FOURTH, NOW).state == "lost"

    eventually(is_lost)
    assert len(began.read_text()) > 1


def test_a_job_beyond_those_that_may_run_and_wait_is_refused_with_retry_after(start: Start) -> None:
    executor = start("import time; time.sleep(60)", max_waiting=1)
    submit(executor, FIRST)
    submit(executor, SECOND)

    with pytest.raises(TrainingCapacityExceeded) as refused, executor.slot():
        pass

    assert refused.value.retry_after_s == 30


def test_unused_room_is_released(start: Start) -> None:
    executor = start("", max_waiting=0)

    for _ in range(3):
        with executor.slot():
            pass

    submit(executor, FIRST)


def test_a_job_whose_worker_ends_in_order_is_not_lost_and_makes_room_for_the_next(start: Start, jobs: Jobs) -> None:
    executor = start("", max_waiting=0)
    submit(executor, FIRST)

    def room() -> bool:
        try:
            submit(executor, SECOND)
        except TrainingCapacityExceeded:
            return False
        return True

    eventually(room)
    assert jobs.status(FIRST, NOW).ended_at is None  # a worker records the end itself


def test_closing_stops_the_worker_and_leaves_waiting_jobs_stored(start: Start, jobs: Jobs, tmp_path: Path) -> None:
    began = tmp_path / "began"
    executor = start(f"import time; open({str(began)!r}, 'w'); time.sleep(60)")
    submit(executor, FIRST)
    submit(executor, SECOND)
    eventually(began.exists)

    executor.close()

    assert jobs.status(FIRST, NOW).state == "lost"
    assert jobs.waiting() == [SECOND, THIRD]


def test_closing_does_not_wait_for_a_turn_that_another_process_has(jobs: Jobs, tmp_path: Path) -> None:
    (turn,) = [SharedPlaces(tmp_path, 1, 1).take_turn()]
    workers, places = Programs(["false"], b""), SharedPlaces(tmp_path, 1, 1)
    executor = LocalExecutor(workers, jobs, lambda: NOW, max_running=1, max_waiting=1, places=places)
    submit(executor, FIRST)

    closing = threading.Thread(target=executor.close, daemon=True)
    closing.start()
    closing.join(TIMEOUT_S)

    assert not closing.is_alive()
    assert FIRST in jobs.waiting()
    assert turn is not None
    turn.leave()


def test_a_turn_that_cannot_be_taken_leaves_the_job_to_be_taken_up_again(jobs: Jobs) -> None:
    class Broken(OwnPlaces):
        n_tries = 0

        def take_turn(self) -> Place | None:
            self.n_tries += 1
            if self.n_tries == 1:
                raise StoreUnavailable("the folder of locks is read-only")
            return super().take_turn()

    meter, places = RecordingMeter(), Broken(1, 1)
    workers = Programs([sys.executable, "-c", "import sys; sys.exit(7)"], b"")
    executor = LocalExecutor(workers, jobs, lambda: NOW, meter, max_running=1, max_waiting=1, places=places)
    submit(executor, FIRST)
    eventually(lambda: meter.values(JOBS_RUNNING)[-2:] == [1, 0])

    submit(executor, FIRST)

    eventually(lambda: jobs.status(FIRST, NOW).state == "lost")
    executor.close()
    assert (meter.values(JOBS_WAITING)[-1], meter.values(JOBS_RUNNING)[-1]) == (0, 0)


def test_running_and_waiting_jobs_are_measured(start: Start, tmp_path: Path) -> None:
    meter, go = RecordingMeter(), tmp_path / "go"
    executor = start(
        f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)", meter=meter
    )

    submit(executor, FIRST)
    submit(executor, SECOND)

    eventually(lambda: (meter.values(JOBS_RUNNING)[-1], meter.values(JOBS_WAITING)[-1]) == (1, 1))
    go.touch()
    eventually(lambda: (meter.values(JOBS_RUNNING)[-1], meter.values(JOBS_WAITING)[-1]) == (0, 0))
    assert min(meter.values(JOBS_WAITING)) == 0
    assert max(meter.values(JOBS_RUNNING)) == 1


def test_closing_counts_waiting_and_running_jobs_down(start: Start) -> None:
    meter = RecordingMeter()
    executor = start("import time; time.sleep(60)", meter=meter)
    submit(executor, FIRST)
    submit(executor, SECOND)

    executor.close()

    eventually(lambda: (meter.values(JOBS_RUNNING)[-1], meter.values(JOBS_WAITING)[-1]) == (0, 0))


def test_a_worker_whose_end_cannot_be_recorded_is_logged_and_makes_room_for_the_next(
    jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def on_exit(job_id: str, why: str | None) -> None:
        if job_id == FIRST:
            raise StoreUnavailable("the bucket is away")

    workers = Programs([sys.executable, "-c", ""], b"")
    executor = LocalExecutor(workers, jobs, lambda: NOW, max_running=1, max_waiting=1, on_exit=on_exit)
    submit(executor, FIRST)
    submit(executor, SECOND)

    executor._threads.shutdown()

    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage() == "how a job ended could not be read or stored: the bucket is away"
    with executor.slot(), executor.slot():
        pass
