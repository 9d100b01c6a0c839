"""Places for jobs, of one process and of several."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from errors import StoreUnavailable, TrainingCapacityExceeded
from services.jobs.job import Jobs
from services.jobs.local import LocalExecutor
from services.jobs.places import OwnPlaces, Place, Places, SharedPlaces
from services.jobs.workers import Programs
from services.training.submission import resume_waiting
from tests.fakes import InMemoryArtifactStore, job_spec
from tests.processes import wait_until

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
FIRST, SECOND, THIRD = (f"2024071{day}t220000-1a2b3c4d" for day in range(3))
WITHIN_S = 20.0
ROOT = Path(__file__).parents[3]


def taken(*places: Place | None) -> list[Place]:
    found = [place for place in places if place is not None]
    assert len(found) == len(places)
    return found


@pytest.fixture(params=["own", "shared"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    return OwnPlaces(1, 2) if request.param == "own" else SharedPlaces(tmp_path, 1, 2)


def test_a_job_that_is_here_is_not_taken_again_until_it_is_left(places: Places) -> None:
    (job,) = taken(places.take_job(FIRST))

    assert places.take_job(FIRST) is None
    job.leave()
    taken(places.take_job(FIRST), places.take_job(SECOND))


def test_there_are_as_many_places_as_said(places: Places) -> None:
    (turn,) = taken(places.take_turn())
    room = taken(*[places.take_room() for _ in range(3)])

    assert places.take_turn() is None
    assert places.take_room() is None
    for place in (turn, *room):
        place.leave()


def test_a_place_that_was_left_can_be_taken_again(places: Places) -> None:
    for _ in range(3):
        (turn,) = taken(places.take_turn())
        turn.leave()


def test_several_share_their_places(tmp_path: Path) -> None:
    one, other = SharedPlaces(tmp_path, 1, 1), SharedPlaces(tmp_path, 1, 1)
    held = taken(one.take_turn(), one.take_room(), other.take_room(), other.take_job(FIRST))

    assert other.take_turn() is None
    assert one.take_room() is None
    assert one.take_job(FIRST) is None
    for place in held:
        place.leave()
    assert len(taken(other.take_turn(), one.take_job(FIRST), one.take_job(SECOND))) == 3


def test_the_file_of_a_job_goes_with_it(tmp_path: Path) -> None:
    (job,) = taken(SharedPlaces(tmp_path, 1, 1).take_job(FIRST))
    assert list(tmp_path.iterdir())

    job.leave()

    assert not list(tmp_path.iterdir())


def test_a_job_whose_file_was_removed_by_hand_ends_as_any_other(tmp_path: Path) -> None:
    places = SharedPlaces(tmp_path, 1, 1)
    (job,) = taken(places.take_job(FIRST))
    for file in tmp_path.iterdir():
        file.unlink()

    job.leave()

    assert len(taken(places.take_job(FIRST))) == 1


def test_a_job_has_one_holder_however_many_try(tmp_path: Path) -> None:
    n_holders, most, lock = 0, 0, threading.Lock()

    def try_often() -> None:
        nonlocal n_holders, most
        places = SharedPlaces(tmp_path, 1, 1)
        for _ in range(300):
            if (job := places.take_job(FIRST)) is not None:
                with lock:
                    n_holders += 1
                    most = max(most, n_holders)
                with lock:
                    n_holders -= 1
                job.leave()

    threads = [threading.Thread(target=try_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1


def test_a_folder_that_cannot_be_written_is_an_unavailable_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreUnavailable, match=r"cannot lock .*: Not a directory$"):
        SharedPlaces(tmp_path / "file" / "below", 1, 1).take_turn()


HOLDER = """
import subprocess, sys
from pathlib import Path
from services.jobs.places import SharedPlaces

turn = SharedPlaces(Path(sys.argv[1]), 1, 1).take_turn()
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=turn.files)
print(worker.pid, flush=True)
sys.stdin.read()
"""


def test_a_worker_keeps_its_place_when_its_server_is_killed(tmp_path: Path) -> None:
    places = SharedPlaces(tmp_path, 1, 1)
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        worker = int(server.stdout.readline())
        try:
            server.kill()
            server.wait()

            assert places.take_turn() is None
        finally:
            os.kill(worker, 9)

    wait_until(lambda: places.take_turn() is not None, WITHIN_S, "the place is free")


@pytest.fixture
def jobs() -> Jobs:
    return Jobs(InMemoryArtifactStore())


@pytest.fixture
def executors(jobs: Jobs, tmp_path: Path) -> Iterator[tuple[LocalExecutor, LocalExecutor]]:
    """Those of two processes of one server; workers run until ``free`` exists, and note their start and their end."""
    source = (
        "import os, sys, time\n"
        f"log = open({str(tmp_path / 'log')!r}, 'a', buffering=1)\n"
        "print('begin', sys.argv[1], file=log)\n"
        f"while not os.path.exists({str(tmp_path / 'free')!r}): time.sleep(0.02)\n"
        "print('end', sys.argv[1], file=log)"
    )

    def executor() -> LocalExecutor:
        places = SharedPlaces(tmp_path / "places", 1, 1)
        command = [sys.executable, "-c", source]
        return LocalExecutor(Programs(command, b""), jobs, lambda: NOW, max_running=1, max_waiting=1, places=places)

    both = executor(), executor()
    yield both
    for one in both:
        one.close()


def submit(executor: LocalExecutor, jobs: Jobs, job_id: str) -> None:
    with executor.slot() as submit:
        jobs.add(job_spec(job_id, NOW).model_copy(update={"executor": "local"}))
        submit(job_id)


def lines(tmp_path: Path) -> list[str]:
    with suppress(FileNotFoundError):
        return (tmp_path / "log").read_text().splitlines()
    return []


def test_the_limits_are_those_of_all_processes(
    executors: tuple[LocalExecutor, LocalExecutor], jobs: Jobs, tmp_path: Path
) -> None:
    one, other = executors
    submit(one, jobs, FIRST)
    wait_until(lambda: len(lines(tmp_path)) == 1, WITHIN_S, "the first job runs")
    submit(other, jobs, SECOND)

    for executor in executors:
        with pytest.raises(TrainingCapacityExceeded), executor.slot():
            pass
    (tmp_path / "free").touch()

    wait_until(lambda: len(lines(tmp_path)) == 4, WITHIN_S, "both jobs have run")
    assert [line.split()[0] for line in lines(tmp_path)] == ["begin", "end"] * 2  # one after the other


def test_a_job_in_the_queue_of_one_process_is_not_resumed_by_another(
    executors: tuple[LocalExecutor, LocalExecutor], jobs: Jobs, tmp_path: Path
) -> None:
    one, other = executors
    submit(one, jobs, FIRST)
    wait_until(lambda: len(lines(tmp_path)) == 1, WITHIN_S, "the first job runs")

    resume_waiting(jobs, other, NOW)  # the small worker claims nothing, so its job counts as waiting

    (tmp_path / "free").touch()
    wait_until(lambda: len(lines(tmp_path)) == 2, WITHIN_S, "the job has run")
    other.close()
    assert lines(tmp_path) == [f"begin {FIRST}", f"end {FIRST}"]


def test_a_job_that_no_process_has_in_its_queue_is_resumed_by_one(
    executors: tuple[LocalExecutor, LocalExecutor], jobs: Jobs, tmp_path: Path
) -> None:
    jobs.add(job_spec(THIRD, NOW).model_copy(update={"executor": "local"}))

    for executor in executors:
        resume_waiting(jobs, executor, NOW)

    wait_until(lambda: len(lines(tmp_path)) == 1, WITHIN_S, "the job runs")
    (tmp_path / "free").touch()
    for executor in executors:
        executor.close()
    assert [line for line in lines(tmp_path) if line.startswith("begin")] == [f"begin {THIRD}"]
