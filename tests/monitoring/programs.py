"""Prometheus and promtool of this machine."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import dies_with_us, free_port

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "monitoring"
START_S = 30.0


def require(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} not found: apt-get install prometheus")


def promtool(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    require("promtool")
    return subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, check=False, timeout=60)


@dataclass(frozen=True)
class Prometheus:
    url: str

    def values(self, query: str) -> list[float]:
        """The newest value of each series that the query finds, without NaN."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=10)
        body: dict[str, Any] = answer.json()
        assert body["status"] == "success", f"{query}: {body}"
        found = [float(series["value"][1]) for series in body["data"]["result"]]
        return [value for value in found if not isnan(value)]

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/-/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False


@contextmanager
def running_prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus with the project's configuration, except the target and shorter intervals."""
    require("prometheus")
    config = (MONITORING / "prometheus.yml").read_text(encoding="utf-8")
    faster = config.replace("_interval: 10s", "_interval: 1s").replace("_timeout: 5s", "_timeout: 1s")
    (folder / "prometheus.yml").write_text(faster.replace("api:8000", target), encoding="utf-8")
    shutil.copy(MONITORING / "rules.yml", folder)
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen([*dies_with_us(), *command], stderr=log) as process:
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{port}")
            deadline = time.monotonic() + START_S
            while not prometheus.is_ready():
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "Prometheus did not get ready"
                time.sleep(0.1)
            yield prometheus
        finally:
            process.terminate()
