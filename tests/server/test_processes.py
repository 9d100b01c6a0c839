"""Several processes of one server: ``WEB_CONCURRENCY=2 python app.py``, and its supervisor by itself."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import requests

from services.storage.ttl_cache import TTL_S
from tests.processes import dies_with_us, is_running, wait_until
from tests.server.conftest import ROOT, RunningServer, Start

pytestmark = pytest.mark.slow

N_PROCESSES = 2
N_REQUESTS = 40
WITHIN_S = 60.0
UP = 'http_requests_total{endpoint="/up",method="GET",status="200"}'


@pytest.fixture(scope="module")
def server(start: Start) -> RunningServer:
    server = start(WEB_CONCURRENCY=str(N_PROCESSES), SHUTDOWN_TIMEOUT_S="20")
    wait_until(lambda: len(processes(server)) == N_PROCESSES, WITHIN_S, "all processes answer")
    return server


def get(server: RunningServer, path: str) -> requests.Response:
    """The answer to a connection of its own: any of the processes may accept it."""
    return requests.get(f"http://127.0.0.1:{server.port}{path}", timeout=30)


def answering(server: RunningServer) -> int:
    pid: int = get(server, "/monitoring/stats").json()["system"]["pid"]
    return pid


def processes(server: RunningServer) -> set[int]:
    return {answering(server) for _ in range(10)}


def value(server: RunningServer, series: str) -> float:
    text = get(server, "/metrics").text
    found = [float(number) for number in re.findall(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)]
    assert len(found) == 1, f"{series}: {found}"
    return found[0]


def test_requests_are_answered_by_all_processes(server: RunningServer) -> None:
    counts = Counter(answering(server) for _ in range(N_REQUESTS))

    assert len(counts) == N_PROCESSES
    assert server.process.pid not in counts


def test_every_process_exposes_the_counts_of_all(server: RunningServer) -> None:
    before = value(server, UP)
    for _ in range(N_REQUESTS):
        assert get(server, "/up").status_code == 200

    assert {value(server, UP) for _ in range(10)} == {before + N_REQUESTS}


def test_gauges_are_those_of_the_server(server: RunningServer) -> None:
    assert value(server, "http_active_requests") == 1  # this scrape
    assert value(server, "model_loaded") == 1
    assert value(server, "training_jobs_running") == 0
    assert value(server, "process_memory_usage_bytes") > N_PROCESSES * 40e6
    assert get(server, "/monitoring/stats").json()["system"]["processes"] == N_PROCESSES


def test_an_alias_moved_through_one_process_is_seen_by_all(server: RunningServer) -> None:
    def found() -> set[str]:
        answers = [get(server, "/models/moved") for _ in range(10)]
        return {str(answer.status_code) for answer in answers}

    assert found() == {"404"}  # remembered by each for a while

    moved = requests.put(
        f"http://127.0.0.1:{server.port}/models/aliases/moved", json={"model_id": "default"}, timeout=30
    )

    assert moved.status_code == 200
    time.sleep(TTL_S)
    assert found() == {"200"}


def test_a_killed_process_is_replaced_and_its_counts_stay(server: RunningServer) -> None:
    series = 'http_requests_total{endpoint="/monitoring/stats",method="GET",status="200"}'
    before, victim = value(server, series), min(processes(server))

    def is_replaced() -> bool:
        try:
            now = processes(server)
        except requests.ConnectionError:
            return False  # what waited for the killed process is lost
        return victim not in now and len(now) == N_PROCESSES

    os.kill(victim, signal.SIGKILL)

    wait_until(is_replaced, WITHIN_S, "another one")
    assert value(server, "http_active_requests") == 1
    assert value(server, series) > before
    assert f"process {victim} of the server ended with exit code -9; another one starts" in server.log


def test_a_signal_ends_all_processes(server: RunningServer) -> None:  # the last of this server
    running = processes(server)

    assert server.end(within_s=20) < 20

    assert server.process.returncode == 0
    assert not any(map(is_running, running))


def test_processes_end_when_their_parent_is_killed(start: Start) -> None:
    server = start(forked=True, WEB_CONCURRENCY=str(N_PROCESSES))
    running = processes(server)

    server.process.kill()

    wait_until(lambda: not any(map(is_running, running)), WITHIN_S, "all have ended")


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("many", "WEB_CONCURRENCY: expected a number of processes, or auto for one per core"),
        ("0", "WEB_CONCURRENCY: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_number_is_an_error_in_one_line(start: Start, setting: str, line: str) -> None:
    ended = start(forked=True, WEB_CONCURRENCY=setting, wait=False)

    assert (ended.process.wait(WITHIN_S), ended.log.strip()) == (1, line)


def test_a_port_in_use_ends_the_server(start: Start) -> None:
    server = start(forked=True)

    second = start(forked=True, WEB_CONCURRENCY="2", PORT=str(server.port), wait=False)

    assert second.process.wait(WITHIN_S) == 3  # as with one process
    assert "address already in use" in second.log.lower()
    assert server.status() == 200


SUPERVISED = """
import logging, os, signal, sys, time
from pathlib import Path
from server.processes import Processes

logging.basicConfig(level=logging.INFO)
folder, timeout_s = Path(sys.argv[1]), float(sys.argv[2])


def work(ready):
    number = len(list(folder.iterdir()))
    (folder / str(os.getpid())).touch()
    {work}


sys.exit(Processes(2, timeout_s, work).run())
"""


def supervised(work: str, folder: Path, timeout_s: float = 20.0) -> "subprocess.Popen[str]":
    command = [*dies_with_us(), sys.executable, "-c", SUPERVISED.replace("{work}", work), str(folder), str(timeout_s)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def started(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def test_what_fails_before_it_is_ready_ends_the_server(tmp_path: Path) -> None:
    with supervised("sys.exit(3)", tmp_path) as parent:
        _, log = parent.communicate(timeout=WITHIN_S)

    assert parent.returncode == 3
    assert "before it was ready" in log


def test_a_process_that_does_not_end_is_killed_in_time(tmp_path: Path) -> None:
    work = "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready(); time.sleep(60)"
    with supervised(work, tmp_path, timeout_s=1.0) as parent:
        wait_until(lambda: len(started(tmp_path)) == 2, WITHIN_S, "both run")
        time.sleep(0.5)
        began = time.monotonic()
        parent.terminate()
        _, log = parent.communicate(timeout=WITHIN_S)

    assert 0.9 < time.monotonic() - began < 10
    assert "are killed" in log
    assert not any(map(is_running, started(tmp_path)))


def test_a_replacement_that_fails_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    work = "ready() if number < 2 else sys.exit(5); time.sleep(60)"
    with supervised(work, tmp_path) as parent:
        wait_until(lambda: len(started(tmp_path)) == 2, WITHIN_S, "both run")
        time.sleep(0.5)
        os.kill(started(tmp_path)[0], signal.SIGKILL)
        wait_until(lambda: len(started(tmp_path)) == 4, WITHIN_S, "two more were started")
        parent.terminate()
        _, log = parent.communicate(timeout=WITHIN_S)

    assert "another one starts" in log
    assert "exit code 5; next try in 1 s" in log
