"""A damaged file of one worker process hides neither the metrics of the others nor the server."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from tests.forked_servers import ForkedServers

ENDED = 999_999_999  # above any process id that Linux gives
UP = 'http_requests_total{endpoint="/up",method="GET",status="200"}'


def entry(key: bytes, used: int | None = None) -> bytes:
    """A file of one value, or one that claims ``used`` bytes."""
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    body = len(key).to_bytes(4, "little") + padded + bytes(16)
    return (used or 8 + len(body)).to_bytes(4, "little") + bytes(4) + body


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty": ("counter", written(b"")),
    "three bytes": ("counter", written(b"\x40\x00\x00")),
    "zeros": ("counter", written(bytes(2))),
    "text": ("counter", written(b"all work and no play makes a metric\n" * 100)),
    "truncated": ("counter", written(entry(b'["a_total", "a_total", {}, "help"]')[:30])),
    "claims more than it has": ("counter", written(entry(b'["a_total", "a_total", {}, "help"]', 2_000_000_000))),
    "no JSON": ("counter", written(entry(b"a_total"))),
    "JSON of another shape": ("counter", written(entry(b'{"a": 1}'))),
    "labels in a list": ("counter", written(entry(b'["a_total", "a_total", [1], "help"]'))),
    "labels that are numbers": ("counter", written(entry(b'["a_total", "a_total", {"a": 1}, "help"]'))),
    "labels that are lists": ("counter", written(entry(b'["a_total", "a_total", {"a": []}, "help"]'))),
    "a name that is a number": ("counter", written(entry(b'[1, 1, {}, "help"]'))),
    "no UTF-8": ("counter", written(entry(b'["\xff", "a", {}, "help"]'))),
    "deep JSON": ("counter", written(entry(b"[" * 20_000))),
    "a bound that is no number": ("histogram", written(entry(b'["a", "a_bucket", {"le": "wide"}, "help"]'))),
    "a kind that does not exist": ("sundial", written(entry(b'["a", "a", {}, "help"]'))),
    "a gauge": ("gauge_livesum", written(b"")),
    "a folder": ("counter", Path.mkdir),
    "a folder of a gauge": ("gauge_livemostrecent", Path.mkdir),
    "a link to nowhere": ("histogram", lambda path: path.symlink_to("nowhere")),
}

METER = """
import sys
from pathlib import Path
from config import prepare_environment
prepare_environment()
import logging
logging.basicConfig()
from telemetry.measures import PREDICTIONS
from telemetry.prometheus import PrometheusMeter
meter = PrometheusMeter(Path(sys.argv[1]))
meter.record(PREDICTIONS, type="live")
print(meter.process_ids, meter.total(PREDICTIONS))
print(meter.exposition("").content.decode())
"""


def exposed_over(folder: Path, script: str = METER) -> tuple[str, str]:
    """The exposition of a new process over the folder, and its log."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    ended = subprocess.run(  # noqa: PLW1510 - the log says more than the exit code
        [sys.executable, "-c", script, str(folder)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


def value(text: str, series: str) -> float:
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found)


def test_damaged_files_of_ended_processes_are_named_and_set_aside_at_the_start(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}_{ENDED - number}.db" for number, (kind, _) in enumerate(DAMAGE.values())]
    for path, (_, damage) in zip(paths, DAMAGE.values(), strict=True):
        damage(path)

    text, log = exposed_over(tmp_path)

    assert value(text, 'predictions_total{type="live"}') == 1
    assert value(text, "metrics_files_unreadable") == 0
    # a gauge of an ended process goes, readable or not
    named = [path for path in paths if path.name in log]
    assert [path.name for path in paths if path not in named] == [f"gauge_livesum_{ENDED - 16}.db"]
    assert not any(os.path.lexists(path) for path in paths)


def test_a_damaged_file_of_the_same_process_id_does_not_keep_a_server_from_starting(tmp_path: Path) -> None:
    own_files = "for k in ('counter', 'histogram'): Path(sys.argv[1], f'{k}_{os.getpid()}.db').write_bytes(b'###')"
    script = METER.replace("import logging", f"import logging, os\n{own_files}")

    text, log = exposed_over(tmp_path, script)

    assert value(text, 'predictions_total{type="live"}') == 1
    assert len(re.findall(r"(counter|histogram)_\d+\.db of an ended process is set aside", log)) == 2


def test_files_of_ended_processes_that_can_be_read_still_count_and_their_gauges_go(tmp_path: Path) -> None:
    first, _ = exposed_over(tmp_path)
    second, log = exposed_over(tmp_path)

    assert (value(first, 'predictions_total{type="live"}'), value(second, 'predictions_total{type="live"}')) == (1, 2)
    assert len(list(tmp_path.glob("gauge_livesum_*.db"))) == 1
    assert log == ""


def test_a_running_server_names_counts_and_skips_what_it_cannot_read(servers: ForkedServers, tmp_path: Path) -> None:
    """The damaged files belong to this process, which lives: they are left where they are."""
    counts = tmp_path / "counts"
    environment = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path), "PROMETHEUS_MULTIPROC_DIR": str(counts)}
    with servers.running(environment) as url:
        paths = [counts / f"{kind}_{os.getpid()}_{number}.db" for number, (kind, _) in enumerate(DAMAGE.values())]
        for path, (_, damage) in zip(paths, DAMAGE.values(), strict=True):
            damage(path)
        requests.get(f"{url}/up", timeout=30)

        text = requests.get(f"{url}/metrics", timeout=30).text
        stats = requests.get(f"{url}/monitoring/stats", timeout=30)

    assert value(text, "metrics_files_unreadable") == len(DAMAGE)
    assert value(text, UP) >= 1
    assert stats.status_code == 200
    assert stats.json()["traffic"]["requests"] >= 1
    assert all(os.path.lexists(path) for path in paths)


def test_a_file_of_a_living_process_stays_where_it_is_at_the_start_of_another(tmp_path: Path) -> None:
    path = tmp_path / f"counter_{os.getpid()}.db"
    path.write_bytes(b"")  # as in the moment after a process has created it

    text, log = exposed_over(tmp_path)

    assert value(text, "metrics_files_unreadable") == 1
    assert path.exists()
    assert log.count(f"{path} is skipped") == 1  # though it is read twice


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / f"counter_{os.getpid()}.db"
    path.touch(0)

    text, log = exposed_over(tmp_path)

    assert value(text, "metrics_files_unreadable") == 1
    assert "Permission denied" in log
