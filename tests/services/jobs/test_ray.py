"""Runs on a real Ray node, in the environment that has Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from errors import TrainerUnavailable
from services.jobs.ray import RayExecutor

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv/ray/bin/python"
WITHIN_S = 240.0


@pytest.mark.slow
def test_a_node_of_ray_does_a_run_and_a_lost_worker_is_replaced() -> None:
    if not PYTHON.exists():
        pytest.skip(f"{PYTHON.relative_to(ROOT)} is not there: make ray")

    done = subprocess.run(
        [str(PYTHON), "-m", "tests.services.jobs.ray_run"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "partial, 2 succeeded, 1 failed, 1 lost worker"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(TrainerUnavailable, match="ray, which is not installed"):
        RayExecutor("auto", lambda settings, piece: None, b"{}", lambda piece, why: None)
