"""Workers that are forks of one process, here of a small program; ``tests/test_worker.py`` has the real one."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.jobs.fork_server import ForkServer
from services.jobs.workers import WorkerProcess
from tests.processes import dies_with_us, is_running, wait_until

ROOT = Path(__file__).parents[3]
WITHIN_S = 20.0

SERVER = """
import os, signal, sys, time
from pathlib import Path
from services.jobs.fork_server import serve_forks

folder = Path({folder!r})
(folder / f"server-{{os.getpid()}}").touch()


def work(job_id, settings):
    (folder / job_id).write_text(f"{{os.getpid()}} {{settings.decode()}}")
    while job_id.startswith("slow") and not (folder / "free").exists():
        time.sleep(0.02)
    if job_id.startswith("code"):
        sys.exit(7)
    if job_id.startswith("fails"):
        raise RuntimeError("no luck")
    if job_id.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / job_id).write_text("done")


serve_forks(work)
"""

Start = Callable[..., ForkServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Makes fork servers, and closes them."""
    made: list[ForkServer] = []

    def start(kept_s: float = 600.0) -> ForkServer:
        command = [*dies_with_us(), sys.executable, "-c", SERVER.format(folder=str(tmp_path))]
        made.append(ForkServer(command, b"settings", kept_s))
        return made[-1]

    yield start
    (tmp_path / "free").touch()
    for server in made:
        server.close()


def servers(folder: Path) -> list[int]:
    """The processes that were forked."""
    return sorted(int(file.name.partition("-")[2]) for file in folder.glob("server-*"))


def pid_of(folder: Path, job: str) -> int:
    """The worker of a job that is slow."""
    wait_until(lambda: (folder / job).exists() and bool((folder / job).read_text()), WITHIN_S, "the worker began")
    return int((folder / job).read_text().split()[0])


def ended(worker: WorkerProcess) -> int | None:
    """The exit code of a worker that ends in time."""
    codes: list[int | None] = []
    waiting = threading.Thread(target=lambda: codes.append(worker.wait()), daemon=True)
    waiting.start()
    waiting.join(WITHIN_S)
    assert codes, "the worker has not ended"
    return codes[0]


def test_workers_of_one_process_get_their_jobs_and_the_settings(start: Start, tmp_path: Path) -> None:
    server = start()

    slow, quick = server.start("slow", ()), server.start("quick", ())

    process_id = pid_of(tmp_path, "slow")
    assert (tmp_path / "slow").read_text() == f"{process_id} settings"
    assert ended(quick) == 0
    (tmp_path / "free").touch()
    assert ended(slow) == 0
    assert [(tmp_path / name).read_text() for name in ("slow", "quick")] == ["done", "done"]
    assert len(servers(tmp_path)) == 1


@pytest.mark.parametrize(("job", "code"), [("code", 7), ("fails", 1), ("killed", -signal.SIGKILL)])
def test_the_exit_code_says_how_a_worker_has_ended(start: Start, job: str, code: int) -> None:
    assert ended(start().start(job, ())) == code


def test_a_worker_can_be_ended_while_it_works(start: Start, tmp_path: Path) -> None:
    worker = start().start("slow", ())
    process_id = pid_of(tmp_path, "slow")

    worker.terminate()

    assert ended(worker) == -signal.SIGTERM
    assert not is_running(process_id)
    worker.terminate()  # it has ended already


def test_a_worker_can_be_ended_before_it_has_begun(start: Start) -> None:
    worker = start().start("slow", ())

    worker.terminate()

    assert ended(worker) == -signal.SIGTERM


def test_an_inherited_lock_is_kept_until_the_worker_ends(start: Start, tmp_path: Path) -> None:
    def is_locked() -> bool:
        with lock.open() as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    lock, server = tmp_path / "lock", start()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        worker = server.start("slow", (file.fileno(),))
        pid_of(tmp_path, "slow")
    assert is_locked()

    (tmp_path / "free").touch()

    assert ended(worker) == 0
    assert not is_locked()


def test_a_process_that_has_died_is_replaced_and_its_workers_go_on(start: Start, tmp_path: Path) -> None:
    server = start()
    slow = server.start("slow", ())
    pid_of(tmp_path, "slow")

    os.kill(servers(tmp_path)[0], signal.SIGKILL)

    assert ended(server.start("quick", ())) == 0
    assert len(servers(tmp_path)) == 2
    (tmp_path / "free").touch()
    assert ended(slow) == 0


def test_a_request_that_was_lost_with_the_process_is_made_again(start: Start, tmp_path: Path) -> None:
    server = start()
    assert ended(server.start("first", ())) == 0
    (first,) = servers(tmp_path)
    os.kill(first, signal.SIGSTOP)  # it reads nothing more

    lost = server.start("second", ())
    os.kill(first, signal.SIGKILL)

    assert ended(lost) == 0
    assert (tmp_path / "second").read_text() == "done"


def test_a_process_that_never_starts_is_not_tried_for_ever(tmp_path: Path) -> None:
    server = ForkServer([sys.executable, "-c", f"open({str(tmp_path / 'tries')!r}, 'a').write('.')"], b"")

    assert ended(server.start("job", ())) is None
    server.close()

    assert (tmp_path / "tries").read_text() == "..."


def test_a_process_without_jobs_ends_and_another_starts_with_the_next_job(start: Start, tmp_path: Path) -> None:
    server = start(kept_s=2.0)
    slow = server.start("slow", ())
    pid_of(tmp_path, "slow")
    (first,) = servers(tmp_path)

    wait_until(lambda: not is_running(first), WITHIN_S, "the process ended")

    (tmp_path / "free").touch()
    assert ended(slow) == 0  # its worker went on
    assert ended(server.start("quick", ())) == 0
    assert len(servers(tmp_path)) == 2


def test_workers_go_on_when_their_owner_is_killed_and_the_process_that_was_forked_ends(tmp_path: Path) -> None:
    owner = f"""
import sys, time
from services.jobs.fork_server import ForkServer
ForkServer([sys.executable, "-c", {SERVER.format(folder=str(tmp_path))!r}], b"settings").start("slow", ()).wait()
"""
    with subprocess.Popen([*dies_with_us(), sys.executable, "-c", owner], cwd=ROOT) as process:
        worker = pid_of(tmp_path, "slow")
        process.kill()

    (forked,) = servers(tmp_path)
    wait_until(lambda: not is_running(forked), WITHIN_S, "the process ended")
    assert is_running(worker)
    (tmp_path / "free").touch()
    wait_until(lambda: (tmp_path / "slow").read_text() == "done", WITHIN_S, "the worker finished")


def test_closing_waits_for_no_import(tmp_path: Path) -> None:
    server = ForkServer([sys.executable, "-c", "import time; time.sleep(60)"], b"")
    worker, began = server.start("quick", ()), time.monotonic()

    server.close()

    assert ended(worker) is None
    assert time.monotonic() - began < WITHIN_S
