"""The real worker in a process of its own, started by the real server, on the sample prices."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from config import Settings, prepare_environment
from services.jobs.job import Jobs
from services.storage.store import LocalArtifactStore
from tests.fakes import job_spec, walk_history, write_prices
from tests.forked_servers import ForkedServers
from tests.processes import dies_with_us
from worker import IMPORTS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
TRAINING = {"ticker": "^GSPC", "start_date": "2016-01-01", "model": "ewma"}
LONG_TRAINING = {
    "ticker": "^GSPC",
    "start_date": "2010-01-01",
    "sequence_length": 20,
    "epochs": 1000,
    "patience": 100,
    "warm_start": False,
}
LOST_WITHIN_S = 30.0


def order(server: str, training: Mapping[str, object]) -> dict[str, Any]:
    answer = requests.post(f"{server}/models/train", json=training, headers={"Prefer": "respond-async"}, timeout=30)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def read(server: str, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = requests.get(f"{server}/jobs/{job_id}", timeout=30).json()
    return job


def wait_until(server: str, job_id: str, *states: str, epochs: int = 0, within_s: float = 120.0) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        job = read(server, job_id)
        if job["state"] in states and (job["progress"] or {"epoch": 0})["epoch"] >= epochs:
            return job
        assert time.monotonic() < deadline, f"not {states} after {within_s} s: {job}"
        time.sleep(0.1)


def worker_of(data: Path, job_id: str) -> int:
    claim = json.loads((data / "jobs" / job_id / "claim.json").read_text())
    return int(claim["worker"].split(":")[1])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_the_process_that_is_forked_has_no_thread_that_a_fork_would_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "JE_ARROW_MALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    prepare_environment()  # as its server does
    program = f"""
import importlib, pathlib
for name in {IMPORTS["other"]}:
    importlib.import_module(name)
print(*(task.read_text() for task in pathlib.Path("/proc/self/task").glob("*/comm")))
"""

    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    assert found.stdout.split() == [Path(sys.executable).name[:15]]


def test_a_killed_worker_leaves_a_lost_job_no_model_and_a_server_that_answers(server: str, data: Path) -> None:
    job = order(server, LONG_TRAINING)
    wait_until(server, job["id"], "running", epochs=1)

    os.kill(worker_of(data, job["id"]), signal.SIGKILL)
    lost = wait_until(server, job["id"], "lost", within_s=LOST_WITHIN_S)

    assert lost["error"]["code"] == "job_lost"
    assert job["model_id"] not in [
        model["id"] for model in requests.get(f"{server}/models", timeout=30).json()["models"]
    ]
    assert not (data / "models" / job["model_id"]).exists()
    assert requests.get(f"{server}/up", timeout=5).status_code == 200


def test_a_server_that_stops_ends_its_worker_and_the_next_takes_up_what_waits(
    servers: ForkedServers, tmp_path: Path
) -> None:
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path)}
    with servers.running(settings) as server:
        running = order(server, LONG_TRAINING)
        waiting = order(server, TRAINING)
        wait_until(server, running["id"], "running")
        worker = worker_of(tmp_path, running["id"])

    assert not Path(f"/proc/{worker}").exists()
    with servers.running(settings) as server:
        assert read(server, running["id"])["state"] == "lost"
        wait_until(server, waiting["id"], "succeeded")


def test_two_workers_of_one_job_train_once(tmp_path: Path) -> None:
    jobs, now = Jobs(LocalArtifactStore(tmp_path)), datetime.now(UTC)
    job_id = f"{now:%Y%m%dt%H%M%S}-1a2b3c4d"
    jobs.add(job_spec(job_id, now, "gspc-1", **TRAINING))
    settings, logs = tmp_path / "settings.json", [tmp_path / "1.log", tmp_path / "2.log"]
    settings.write_text(Settings(_env_file=None, price_source="sample", data_dir=tmp_path).model_dump_json())
    command = [*dies_with_us(), sys.executable, str(ROOT / "worker.py"), job_id]

    workers = []
    for log in logs:
        with settings.open("rb") as given, log.open("wb") as kept:
            workers.append(subprocess.Popen(command, stdin=given, stderr=kept))

    assert [worker.wait(120) for worker in workers] == [0, 0]
    assert sum("skipping" in log.read_text() for log in logs) == 1
    assert jobs.status(job_id, now).state == "succeeded"
    assert [folder.name for folder in (tmp_path / "models").iterdir()] == ["gspc-1"]


def test_a_killed_training_of_a_universe_continues_to_the_same_weights(server: str, data: Path) -> None:
    universe = data / "universes" / "walks"
    universe.mkdir(parents=True)
    for seed in range(4):
        write_prices(universe, walk_history(f"W{seed}", n_sessions=1000, seed=seed))
    request = {"universe": "walks", "sequence_length": 20, "epochs": 6}
    job = order(server, request)

    deadline = time.monotonic() + 120
    while not any((data / "checkpoints").glob("*.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(worker_of(data, job["id"]), signal.SIGKILL)
    wait_until(server, job["id"], "lost", within_s=LOST_WITHIN_S)
    assert any((data / "checkpoints").iterdir())
    retried = requests.post(f"{server}/jobs/{job['id']}/retry", timeout=30).json()
    continued = wait_until(server, retried["id"], "succeeded")
    assert not any((data / "checkpoints").iterdir())
    again = wait_until(server, order(server, request)["id"], "succeeded")

    def files(one: dict[str, Any]) -> dict[str, bytes]:
        folder = data / "models" / one["model_id"]
        return {name: (folder / name).read_bytes() for name in ("weights.safetensors", "model.onnx")}

    assert files(continued) == files(again)
    assert continued["progress"]["validation_losses"] == again["progress"]["validation_losses"]
