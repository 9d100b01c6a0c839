"""Mixed work while the server and its workers are killed at random (SIGKILL), and what is left afterwards.

    python -m benchmarks.kills [--minutes 60] [--clients 4] [--seed 1] [--store local|s3]

A killed server is started again at once. Connections may end without an answer; every answer that does come must be
right or a named error. Afterwards every job must end, each acknowledged model must load, pass its checksums and
forecast the same, no alias may point to a model that does not exist, and no model may be incomplete once the leftovers
are removed, as trainings do after a week. Exits with 1 and the findings otherwise.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import psutil

from benchmarks.mixed_work import MixedWork, check_forecasts, check_store, print_findings
from benchmarks.server import wait_until_up
from benchmarks.wire_faults import SYMBOLS, environment, fill, s3_server, start, stop, wait_for_jobs
from services.storage.registry import UNFINISHED_FOR, ModelRegistry
from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from tests.processes import free_port
from tests.s3_servers import ACCESS_KEY, SECRET_KEY
from tests.yahoo_server import running_yahoo

PAUSE_S = (2.0, 20.0)
START_WITHIN_S = 300.0  # on a machine where other work takes the processors


class Victim:
    """A server that is killed and started again."""

    def __init__(self, yahoo: int, settings: dict[str, str], url: str, log: IO[bytes]) -> None:
        self._arguments = yahoo, settings, log
        self._url = url
        self.kills: Counter[str] = Counter()
        self._start()

    def kill(self, chance: random.Random) -> None:
        """Kill the server, with or without its workers, or one worker alone."""
        workers = psutil.Process(self.process.pid).children()
        what = chance.choice(["server", "server and workers", "worker"] if workers else ["server"])
        self.kills[what] += 1
        if what != "server":
            for worker in workers:
                worker.kill()
        if what != "worker":
            self.process.kill()
            self.process.wait()
            self._start()

    def _start(self) -> None:
        self.process = start(*self._arguments)
        try:
            wait_until_up(self._url, self.process, START_WITHIN_S)
        except RuntimeError:
            self.process.kill()
            raise

    @contextmanager
    def at_random(self, seed: int) -> Iterator[None]:
        chance, over = random.Random(seed), threading.Event()  # noqa: S311 - no secret

        def run() -> None:
            while not over.wait(chance.uniform(*PAUSE_S)):
                self.kill(chance)

        with ThreadPoolExecutor(1) as killer:
            killing = killer.submit(run)
            try:
                yield
            finally:
                over.set()
            killing.result()  # fails if the server did not come back


def main() -> None:
    """Print how the requests ended, and what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    parser.add_argument("--log", type=Path, help="where the server's log goes (default: nowhere)")
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yahoo = stack.enter_context(running_yahoo())
        fill(yahoo)
        port = free_port()
        store: ArtifactStore = LocalArtifactStore(folder / "data")
        settings = environment(0, "", folder / "data", port)
        if options.store == "s3":
            s3 = stack.enter_context(s3_server(folder, ceph=False))
            settings |= {"S3_BUCKET_NAME": s3.bucket, "S3_ENDPOINT_URL": s3.endpoint_url}
            store = S3ArtifactStore(s3.bucket, s3.endpoint_url)
        else:
            del settings["S3_ENDPOINT_URL"]
        url = f"http://127.0.0.1:{port}"
        log = stack.enter_context((options.log or folder / "server.log").open("wb"))
        victim = Victim(yahoo.port, settings, url, log)
        stack.callback(lambda: stop(victim.process))
        work = MixedWork(url, SYMBOLS, options.seed, killed=True)
        until = time.monotonic() + 60 * options.minutes
        with victim.at_random(options.seed):
            work.run(10**9, options.clients, until=lambda: time.monotonic() > until)
        found = list(work.wrong) + wait_for_jobs(work)
        registry = ModelRegistry(store)
        found += check_forecasts(work, {model_id: registry.card(model_id) for model_id in registry.ids()})
        stop(victim.process)
        leftovers = ModelRegistry(store).remove_leftovers(datetime.now(UTC) + UNFINISHED_FOR + timedelta(days=1))
        found += check_store(store, work)
    print(f"unfinished models removed: {len(leftovers)}")
    print(f"{sum(work.counts.values())} requests, slowest answer {work.slowest_s:.1f} s, kills {dict(victim.kills)}")
    print_findings(work, found)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
