"""Mixed requests while the network to the store and to Yahoo breaks at random, and what is left afterwards.

    python -m benchmarks.wire_faults [--requests 5000] [--clients 8] [--seed 1] [--ceph]

A real server and real workers use a real S3 server and the real Yahoo client over proxies that lose requests and
answers, cut, delay and refuse them (one in twelve), and that close every connection for two seconds of every twenty.
Every answer must be right or a named error. Afterwards, without faults, each acknowledged model must load, pass its
checksums and forecast the same, every model must belong to a job that an answer named, and no temporary file may be
left. Exits with 1 and the findings otherwise.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np

from benchmarks.mixed_work import Answer, MixedWork, check_forecasts, check_store, print_findings, temporary_files
from benchmarks.server import wait_until_up
from errors import JobNotFound
from services.prices.calendars import last_completed_session, sessions_between
from services.storage.registry import ModelRegistry
from services.storage.s3 import S3ArtifactStore
from tests.fault_proxy import FaultProxy, running_proxy
from tests.processes import free_port
from tests.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, moto_server, radosgw_server
from tests.yahoo_server import Quotes, YahooServer, running_yahoo

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF")
INDICES = ("^GSPC", "^VIX")
SHARE = 1 / 12
OUTAGE_S, OUTAGE_EVERY_S = 2.0, 20.0
SILENT_FOR_S = 300.0


def fill(yahoo: YahooServer) -> None:
    """Five years of random walks, up to the last session."""
    last = last_completed_session("XNYS", datetime.now(UTC))
    sessions = sessions_between("XNYS", last - timedelta(days=5 * 365), last).tolist()
    chance = np.random.default_rng(0)
    for symbol in (*SYMBOLS, *INDICES):
        returns = chance.standard_t(4, len(sessions)) * 0.01
        closes = (100 * np.exp(np.cumsum(returns))).round(4).tolist()
        yahoo.quotes[symbol] = Quotes(sessions, [20 + close / 100 for close in closes] if symbol == "^VIX" else closes)


@contextmanager
def outages(proxies: Sequence[FaultProxy]) -> Iterator[None]:
    """Close every connection for two seconds of every twenty."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(OUTAGE_EVERY_S - OUTAGE_S):
            for down in (True, False):
                for proxy in proxies:
                    proxy.down = down
                over.wait(OUTAGE_S if down else 0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for proxy in proxies:
            proxy.down = False


def environment(store: int, bucket: str, folder: Path, port: int) -> dict[str, str]:
    """Settings of a server that reaches its store on this port."""
    return {
        **os.environ,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATA_DIR": str(folder),
        "S3_BUCKET_NAME": bucket,
        "S3_ENDPOINT_URL": f"http://127.0.0.1:{store}",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "PRICE_TTL_S": "5",
        "YAHOO_TIMEOUT_S": "5",
        "TRAIN_WAIT_S": "60",
        "MAX_WAITING_TRAININGS": "6",
    }


@contextmanager
def s3_server(folder: Path, *, ceph: bool) -> Iterator[S3Server]:
    if ceph:
        (folder / "ceph").mkdir()
        with radosgw_server(folder / "ceph") as server:
            yield server
    else:
        with moto_server() as server:
            yield server


def wait_for_jobs(work: MixedWork) -> list[str]:
    """Wait while jobs end or report progress; what has neither ended nor changed for ``SILENT_FOR_S``.

    One training runs at a time, and on a busy machine each of the queue takes minutes. A job that only an error has
    named may not exist: whether it was stored was not known.
    """
    left, changed_at = set(work.jobs), time.monotonic()
    seen: dict[str, object] = {}
    answers: dict[str, Answer] = {}
    while left and time.monotonic() < changed_at + SILENT_FOR_S:
        answers = {job: work.call("GET", f"/jobs/{job}") for job in sorted(left)}
        for job, answer in answers.items():
            if answer.code == JobNotFound.code and job not in work.accepted:
                left.remove(job)
            elif answer.status == 200 and answer.body["ended_at"] is not None:
                left.remove(job)
                if answer.body["state"] == "succeeded" and answer.body["model_id"] not in work.deleted:
                    work.models.add(answer.body["model_id"])
        now = {job: _position(answers[job]) for job in left}
        if now != seen:
            seen, changed_at = now, time.monotonic()
        time.sleep(1)
    return [f"job {job} has not ended: {answers[job].status} {answers[job].body}" for job in sorted(left)]


def _position(answer: Answer) -> object:
    """How far a job is; that its worker is alive does not count."""
    if answer.status != 200:
        return None
    progress = answer.body["progress"] or {}
    return answer.body["state"], progress.get("phase"), progress.get("share")


def start(yahoo: int, environment: Mapping[str, str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
    """A server that reaches Yahoo on this port."""
    command = [sys.executable, "-m", "benchmarks.served_with_faults", str(yahoo)]
    return subprocess.Popen(command, env=dict(environment), stdout=log, stderr=log)


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(60)


def main() -> None:
    """Print how the requests ended, and what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire_faults", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ceph", action="store_true", help="use a Ceph gateway rather than moto")
    parser.add_argument("--log", type=Path, help="where the server's log goes (default: nowhere)")
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        s3 = stack.enter_context(s3_server(folder, ceph=options.ceph))
        yahoo = stack.enter_context(running_yahoo())
        fill(yahoo)
        to_store = stack.enter_context(running_proxy(urlsplit(s3.endpoint_url).port or 0, options.seed))
        to_yahoo = stack.enter_context(running_proxy(yahoo.port, options.seed + 1))
        port = free_port()
        log_path = options.log or folder / "server.log"
        log = stack.enter_context(log_path.open("wb"))
        process = start(to_yahoo.port, environment(to_store.port, s3.bucket, folder / "data", port), log)
        stack.callback(stop, process)
        work = MixedWork(f"http://127.0.0.1:{port}", SYMBOLS, options.seed)
        wait_until_up(work.url, process)
        started = time.monotonic()
        with outages([to_store, to_yahoo]):
            to_store.share = to_yahoo.share = SHARE
            work.run(options.requests, options.clients)
            to_store.share = to_yahoo.share = 0.0
        seconds = time.monotonic() - started
        store = S3ArtifactStore(s3.bucket, s3.endpoint_url)
        found = list(work.wrong) + wait_for_jobs(work)
        registry = ModelRegistry(store)
        cards = {model_id: registry.card(model_id) for model_id in registry.ids()}
        found += check_forecasts(work, cards)
        stop(process)
        found += check_store(store, work) + temporary_files(folder / "data")
        tracebacks = log_path.read_text(errors="replace").count("Traceback")
    print(f"{sum(work.counts.values())} requests in {seconds:.0f} s, slowest answer {work.slowest_s:.1f} s")
    print(f"faults: store {dict(to_store.counts)}, Yahoo {dict(to_yahoo.counts)}")
    print(f"{tracebacks} tracebacks in the server's log")
    print_findings(work, found)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
