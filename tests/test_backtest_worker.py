"""Long backtests as jobs: the real worker in a process of its own, started by the real server, on the sample prices."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import processes
from tests.forked_servers import ForkedServers
from tests.serving import sent

pytestmark = pytest.mark.slow

REFITTED = {"ticker": "^GSPC", "start": "2001-01-01", "refit_every": 300, "horizon": 1}  # 16 fits of LSTMs
SLOW = {"ticker": "^GSPC", "start": "2001-01-01"}  # some seconds with a long horizon; may be paused for longer
LONG = {"ticker": "^GSPC", "start": "2015-06-01", "horizon": 10}  # a second or two
STOPS_WITHIN_S = 30.0  # on a machine at rest, four
WRONGLY_STOPS_WITHIN_S = 2.0  # a backtest without a waiting client is cancelled in less
LEAVES_WITHIN_S = 30.0  # an import of torch is not interrupted
PATH = "/models/default/backtest"
# some seconds, and paused for longer; spares the worker the import of torch
TRAINING = {"ticker": "^GSPC", "start_date": "2000-01-01", "model": "gradient_boosting"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.log"


@pytest.fixture(scope="module")
def server(servers: ForkedServers, data: Path, log: Path) -> Iterator[str]:
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(data), "MAX_WAITING_BACKTESTS": "1"}
    with servers.running(settings, log) as url:
        yield url


@pytest.fixture(autouse=True)
def _what_the_server_said(log: Path) -> Iterator[None]:
    """Shown if the test fails."""
    before = log.stat().st_size if log.exists() else 0
    yield
    sys.stdout.write(log.read_bytes()[before:].decode())


def start(server: str, request: Mapping[str, object], **headers: str) -> dict[str, Any]:
    headers = {"Prefer": "respond-async", **headers}
    deadline = time.monotonic() + LEAVES_WITHIN_S  # the worker of a job that has ended still has to leave
    while (answer := requests.post(f"{server}{PATH}", json=request, headers=headers, timeout=30)).status_code == 429:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    assert (answer.headers["Location"], job["kind"]) == (f"/jobs/{job['id']}", "backtest")
    return job


def read(server: str, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = requests.get(f"{server}/jobs/{job_id}", timeout=30).json()
    return job


def wait_until(server: str, job_id: str, *states: str, within_s: float = 300.0) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while (job := read(server, job_id))["state"] not in states:
        assert time.monotonic() < deadline, f"not {states} after {within_s} s: {job}"
        time.sleep(0.1)
    return job


def newest(server: str, but: str | None) -> str:
    """The id of the newest job, once it is another one."""
    deadline = time.monotonic() + 30
    while True:
        jobs = requests.get(f"{server}/jobs?limit=1", timeout=30).json()["jobs"]
        if jobs and jobs[0]["id"] != but:
            job_id: str = jobs[0]["id"]
            return job_id
        assert time.monotonic() < deadline
        time.sleep(0.05)


def last(server: str) -> str | None:
    jobs = requests.get(f"{server}/jobs?limit=1", timeout=30).json()["jobs"]
    return jobs[0]["id"] if jobs else None


def worker_of(data: Path, job_id: str) -> int:
    claim = json.loads((data / "jobs" / job_id / "claim.json").read_text())
    return int(claim["worker"].split(":")[1])


def ends(pid: int, within_s: float = STOPS_WITHIN_S) -> bool:
    deadline = time.monotonic() + within_s
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@contextmanager
def paused(data: Path, job_id: str) -> Iterator[None]:
    """Let the job's worker do nothing meanwhile, so that the backtest lasts."""
    worker = worker_of(data, job_id)
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_client_that_leaves_ends_its_backtest_and_frees_the_lane(server: str, data: Path) -> None:
    before = last(server)
    with sent(server, "POST", PATH, json.dumps(REFITTED).encode()):
        job_id = newest(server, before)
        wait_until(server, job_id, "running")
        worker = worker_of(data, job_id)
    left = time.monotonic()

    wait_until(server, job_id, "cancelled", within_s=STOPS_WITHIN_S)

    assert ends(worker, left + LEAVES_WITHIN_S - time.monotonic())
    assert wait_until(server, start(server, LONG)["id"], "succeeded")["result"]["n_origins"] > 850


def test_only_the_last_of_several_waiting_clients_ends_the_backtest(server: str, data: Path) -> None:
    before, body = last(server), json.dumps({**SLOW, "horizon": 30}).encode()
    with sent(server, "POST", PATH, body):
        job_id = newest(server, before)
        wait_until(server, job_id, "running")
        with paused(data, job_id):
            with sent(server, "POST", PATH, body):
                time.sleep(1)  # the second one waits too
            time.sleep(WRONGLY_STOPS_WITHIN_S)
            assert (read(server, job_id)["state"], last(server)) == ("running", job_id)

    wait_until(server, job_id, "cancelled", within_s=STOPS_WITHIN_S)


def test_a_client_that_knows_the_id_may_leave(server: str, data: Path) -> None:
    request = {**SLOW, "horizon": 29}
    job = start(server, request)
    processes.wait_until(lambda: read(server, job["id"])["progress"] is not None, 300, "the first progress")
    with paused(data, job["id"]):
        with sent(server, "POST", PATH, json.dumps(request).encode()):
            time.sleep(1)
        time.sleep(WRONGLY_STOPS_WITHIN_S)
        running = read(server, job["id"])
    cancelled = requests.delete(f"{server}/jobs/{job['id']}", timeout=30)

    assert (running["state"], last(server)) == ("running", job["id"])
    assert 0 <= running["progress"]["share"] < 1
    assert cancelled.status_code == 202
    ended = wait_until(server, job["id"], "cancelled", within_s=STOPS_WITHIN_S)
    assert (ended["error"]["code"], ended["result"]) == ("job_cancelled", None)


def test_a_worker_that_crashes_leaves_its_stack_and_a_lost_job_that_can_be_retried(
    server: str, data: Path, log: Path
) -> None:
    job = start(server, {**LONG, "start": "2012-01-01", "horizon": 15})
    wait_until(server, job["id"], "running")

    os.kill(worker_of(data, job["id"]), signal.SIGSEGV)
    lost = wait_until(server, job["id"], "lost", within_s=30)
    retried = requests.post(f"{server}/jobs/{job['id']}/retry", timeout=30).json()

    assert (lost["error"]["code"], "exit code -11" in lost["error"]["detail"]) == ("job_lost", True)
    assert "Fatal Python error: Segmentation fault" in log.read_text()
    assert (retried["kind"], retried["retry_of"]) == ("backtest", job["id"])
    assert wait_until(server, retried["id"], "succeeded")["result"]["horizon"] == 15


def finished(server: str) -> requests.Response:
    """The answer to a backtest that is a job; the first test has computed it."""
    answer = requests.post(f"{server}{PATH}", json=LONG, timeout=300)
    if answer.status_code == 202:  # it has taken longer than a request waits
        wait_until(server, answer.json()["id"], "succeeded")
        answer = requests.post(f"{server}{PATH}", json=LONG, timeout=300)
    assert answer.status_code == 200, answer.text
    return answer


def test_the_same_backtest_again_is_the_finished_one(server: str) -> None:
    first, newest_job = finished(server), last(server)
    second = finished(server)

    assert first.json() == second.json()
    assert first.headers["Location"] == second.headers["Location"]
    assert last(server) == newest_job


def test_backtests_do_not_wait_for_trainings_and_too_many_are_refused(server: str, data: Path) -> None:
    training = requests.post(f"{server}/models/train", json=TRAINING, headers={"Prefer": "respond-async"}, timeout=30)
    wait_until(server, training.json()["id"], "running")

    with paused(data, training.json()["id"]), ExitStack() as pauses:
        two = [start(server, {**SLOW, "horizon": horizon}) for horizon in (28, 27)]
        wait_until(server, two[0]["id"], "running")
        pauses.enter_context(paused(data, two[0]["id"]))
        third = requests.post(f"{server}{PATH}", json={**SLOW, "horizon": 26}, timeout=30)
        short = requests.post(f"{server}{PATH}", json={"ticker": "^GSPC", "start": "2018-12-01"}, timeout=60)
        second = read(server, two[1]["id"])
        for job_id in (training.json()["id"], two[1]["id"], two[0]["id"]):
            requests.delete(f"{server}/jobs/{job_id}", timeout=30)

    assert (third.status_code, third.json()["code"]) == (429, "too_many_backtests")
    assert int(third.headers["Retry-After"]) > 0
    assert short.status_code == 200
    assert second["state"] == "queued"
    for job in two:
        wait_until(server, job["id"], "cancelled", within_s=STOPS_WITHIN_S)


def test_one_key_is_one_job(server: str) -> None:
    jobs = {start(server, {**SLOW, "horizon": 8}, **{"Idempotency-Key": "once"})["id"] for _ in range(2)}
    other = requests.post(
        f"{server}{PATH}", json=SLOW | {"horizon": 7}, headers={"Idempotency-Key": "once"}, timeout=30
    )

    assert len(jobs) == 1
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    (job_id,) = jobs
    requests.delete(f"{server}/jobs/{job_id}", timeout=30)
    wait_until(server, job_id, "cancelled")


def test_a_page_of_jobs_leaves_out_the_figures(server: str) -> None:
    job = requests.get(f"{server}{finished(server).headers['Location']}", timeout=30).json()

    page = requests.get(f"{server}/jobs?limit=100", timeout=30).json()["jobs"]

    (found,) = [one for one in page if one["id"] == job["id"]]
    assert (found["state"], found["result"]) == ("succeeded", None)
    assert job["result"]["baselines"]
