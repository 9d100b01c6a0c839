"""How quickly a server answers while a training runs on the same machine.

    python -m benchmarks.responsiveness [--seconds 20]

A fresh ``python app.py`` with the sample prices receives ``GET /up`` every 10 ms over one connection, first alone, then
while a worker trains on 19 years of ^GSPC for at least as long. Each time is that of the whole request; 99 of 100
answers must stay within the bound.
"""

import argparse
import http.client
import json
import tempfile
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import numpy as np

from benchmarks.server import running_server

MOST_MS = 100.0
EVERY_S = 0.01
START_WITHIN_S = 60.0
TRAINING = {
    "ticker": "^GSPC",
    "start_date": "2000-01-01",
    "model": "ratio_lstm",
    "epochs": 1000,
    "patience": 100,
    "warm_start": False,
    "max_seconds": 600,
}


class Caller:
    """One kept connection to a server."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, object]:
        """The JSON of an answer; an error status raises."""
        content = None if body is None else json.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content_read = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {content_read[:200]!r}")
        found: dict[str, object] = json.loads(content_read)
        return found


def milliseconds_of_up(caller: Caller, seconds: float) -> list[float]:
    took: list[float] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        caller.call("GET", "/up")
        took.append(1000 * (time.perf_counter() - started))
        time.sleep(max(0.0, EVERY_S - took[-1] / 1000))
    return took


def start_training(caller: Caller) -> str:
    """The path of a job that has finished its first epoch."""
    path = f"/jobs/{caller.call('POST', '/models/train?async=true', TRAINING)['id']}"
    deadline = time.monotonic() + START_WITHIN_S
    while not _epochs(job := caller.call("GET", path)):
        if time.monotonic() > deadline or job["ended_at"] is not None:
            raise RuntimeError(f"the training does not run: {job}")
        time.sleep(0.2)
    return path


def _epochs(job: Mapping[str, object]) -> int:
    progress = job["progress"]
    return progress["epoch"] if isinstance(progress, dict) else 0


def _row(name: str, took: list[float]) -> str:
    p50, p99 = np.percentile(took, [50, 99])
    return f"{name:<18}{len(took):>8}  {p50:>8.1f}  {p99:>8.1f}  {max(took):>8.1f}"


def main() -> None:
    """Print a line without and a line with a training."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.responsiveness", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20, help="per line (default: %(default)s)")
    seconds = parser.parse_args().seconds
    print(f"{'GET /up':<18}{'answers':>8}  {'p50 ms':>8}  {'p99 ms':>8}  {'max ms':>8}")
    with tempfile.TemporaryDirectory() as folder, running_server({"PRICE_SOURCE": "sample", "DATA_DIR": folder}) as url:
        caller = Caller(url)
        print(_row("alone", milliseconds_of_up(caller, seconds)), flush=True)
        job = start_training(caller)
        took = milliseconds_of_up(caller, seconds)
        ended = caller.call("GET", job)["ended_at"]
        caller.call("DELETE", job)
    print(_row("while training", took))
    if ended is not None:
        parser.exit(1, "the training ended too soon\n")
    if np.percentile(took, 99) > MOST_MS:
        parser.exit(1, f"bound broken: 99 of 100 within {MOST_MS:.0f} ms\n")


if __name__ == "__main__":
    main()
