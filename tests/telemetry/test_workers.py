"""Several processes of one server count together: ``uvicorn app:app --workers 2``."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.processes import dies_with_us, free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
WORKERS = 2
N_REQUESTS = 60
START_S = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("workers")
    port = free_port()
    environment = os.environ | {
        "PRICE_SOURCE": "sample",
        "DATA_DIR": str(folder / "var"),
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "counts"),
    }
    command = [sys.executable, "-m", "uvicorn", "app:app", "--workers", str(WORKERS), "--port", str(port)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*dies_with_us(), *command], cwd=ROOT, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_S
            while len(workers(url)) < WORKERS:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def workers(url: str) -> set[int]:
    try:
        return {requests.get(f"{url}/monitoring/stats", timeout=30).json()["system"]["pid"] for _ in range(10)}
    except requests.ConnectionError:
        return set()


def value(url: str, series: str) -> float:
    text = requests.get(f"{url}/metrics", timeout=30).text
    found = [float(number) for number in re.findall(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)]
    assert len(found) == 1, f"{series}: {found}"
    return found[0]


UP = 'http_requests_total{endpoint="/up",method="GET",status="200"}'


def test_every_worker_exposes_the_counts_of_all(server: str) -> None:
    for _ in range(N_REQUESTS):
        assert requests.get(f"{server}/up", timeout=30).status_code == 200

    assert {value(server, UP) for _ in range(10)} == {N_REQUESTS}


def test_gauges_are_those_of_the_server(server: str) -> None:
    assert value(server, "http_active_requests") == 1  # this scrape
    assert value(server, "model_loaded") == 1
    assert value(server, "training_jobs_running") == 0


def test_memory_is_summed_over_the_workers(server: str) -> None:
    stats = requests.get(f"{server}/monitoring/stats", timeout=30).json()

    assert stats["system"]["processes"] == WORKERS
    assert value(server, "process_memory_usage_bytes") > WORKERS * 40e6


def test_counts_of_a_killed_worker_stay_and_its_gauges_go(server: str) -> None:
    before = value(server, 'http_requests_total{endpoint="/monitoring/stats",method="GET",status="200"}')
    victim = min(workers(server))

    os.kill(victim, signal.SIGKILL)

    deadline = time.monotonic() + START_S
    while victim in (now := workers(server)) or len(now) < WORKERS:  # uvicorn starts a new one
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert value(server, "http_active_requests") == 1
    assert value(server, 'http_requests_total{endpoint="/monitoring/stats",method="GET",status="200"}') > before
