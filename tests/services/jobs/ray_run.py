"""A run of two tickers on one node of Ray, whose worker is killed once; a program of its own, for ``test_ray``."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.run_on_ray import START_WITHIN_S, ray_node
from benchmarks.run_place import follow, runtime_of, start
from schemas.run import Run
from services.runs.pieces import Piece
from tests.fakes import walk_history, write_prices
from tests.processes import free_port, listens, wait_until

TRAINING = {"model": "ewma", "sequence_length": 20}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as place:
        data, port = Path(place) / "data", free_port()
        prices = data / "universes" / "benchmark"
        prices.mkdir(parents=True)
        for seed, ticker in enumerate("AB"):
            write_prices(prices, walk_history(ticker, seed=seed))
        head = ("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(Path(place) / "ray"))
        with ray_node(Path(place), *head):
            wait_until(lambda: listens(port), START_WITHIN_S, "the node")
            runtime = runtime_of(data, executor="ray", ray_address=f"127.0.0.1:{port}", run_workers=1)
            run = start(runtime, ("A", "B", "NOPE"), action="train", training=TRAINING)
            killed: list[int] = []

            def kill_once(_: Run) -> None:
                chunks = runtime.runs.round_view(Piece(run.id, 0)).chunks.values()
                workers = [chunk.worker for chunk in chunks if chunk.worker is not None]
                if workers and not killed:
                    killed.append(int(workers[0].split(":")[1]))
                    os.kill(killed[0], signal.SIGKILL)

            while not killed:
                kill_once(run)
                time.sleep(0.02)
            ended = follow(runtime, run.id)
            runtime.run_executor.close()
    counts = ended.counts
    lost = len(ended.lost_workers)
    story = f"{ended.state}, {counts.succeeded} succeeded, {counts.failed} failed, {lost} lost worker"
    sys.stdout.write(f"{story}\n")


if __name__ == "__main__":
    main()
