"""A run on a real Ray cluster of two nodes on this machine, of which one is killed half-way.

    .venv/ray/bin/python -m benchmarks.run_on_ray --data DIR [--tickers 50] [--epochs 3]

Two ``ray start`` with ports of their own and one core each. After two fifths of the tickers, every process of the
second node is killed. The command fails unless every ticker ends, and ends once. It prints the losses that the run
records, and the digest of all weights, which ``benchmarks.run_engines`` compares with those of other engines.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.run_place import add_price_options, digest, follow, load, runtime_of, start, tickers_of, write_universe
from schemas.run import Run
from services.runs.pieces import Piece
from tests.processes import dies_with_us, free_port, listens, wait_until

START_WITHIN_S = 120.0
NODE = ("--block", "--num-cpus", "1", "--object-store-memory", "100000000", "--disable-usage-stats",
        "--node-ip-address", "127.0.0.1")  # fmt: skip


@contextmanager
def ray_node(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A node of Ray in a session of its own, none of whose processes outlives the block."""
    command = [*dies_with_us(), sys.executable, "-m", "ray.scripts.scripts", "start", *NODE, *arguments]
    log = (folder / f"node-{time.monotonic_ns()}.log").open("wb")
    with log, subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True) as node:
        try:
            yield node
        finally:
            kill_node(node)
            node.wait()


def kill_node(node: "subprocess.Popen[bytes]") -> None:
    """Kill every process of the node at once, as the loss of a machine does."""
    for process in _session(node.pid):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _session(leader: int) -> list[int]:
    """The processes of a session, and their children that have begun one of their own."""
    found, parents = {leader}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        pid, parent, session = int(stat.parent.name), int(fields[1]), int(fields[3])
        parents[pid] = parent
        if session == leader:
            found.add(pid)
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return sorted(found)


@contextmanager
def ray_cluster(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address of a cluster of two nodes, and its second node."""
    port = free_port()
    head = ("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(folder / "head"))
    with ray_node(folder, *head):
        wait_until(lambda: listens(port), START_WITHIN_S, "the head node")
        with ray_node(folder, "--address", f"127.0.0.1:{port}") as second:
            wait_until(lambda: _n_nodes(port) == 2, START_WITHIN_S, "the second node")
            yield f"127.0.0.1:{port}", second


def _n_nodes(port: int) -> int:
    """Nodes that the cluster counts, asked in a process of its own: a driver may connect only once."""
    program = f"import ray; ray.init('127.0.0.1:{port}', log_to_driver=False); print(len(ray.nodes()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_price_options(parser)
    parser.add_argument("--tickers", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    # not below a long TMPDIR: the sockets of Ray must have short paths
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as place:
        data = Path(place) / "data"
        tickers = write_universe(data, options)
        with ray_cluster(Path(place)) as (address, second):
            runtime = runtime_of(data, executor="ray", ray_address=address, run_workers=2)
            began = time.monotonic()
            run = start(runtime, tickers, action="fine_tune", training={"epochs": options.epochs})
            killed: list[float] = []

            seen: list[str] = []

            def watch(state: Run) -> None:
                if str(state.counts) not in seen:
                    seen.append(str(state.counts))
                    print(f"{time.monotonic() - began:6.1f} s  {state.state}: {state.counts}", flush=True)
                if not killed and state.counts.succeeded >= 0.4 * len(tickers):
                    killed.append(time.monotonic() - began)
                    kill_node(second)
                    print(f"{killed[0]:6.1f} s  killed the second node", flush=True)

            ended = follow(runtime, run.id, watch)
            took_s = time.monotonic() - began
            runtime.run_executor.close()
            for one in ended.lost_workers:
                print(f"lost: {one.worker} on {one.ticker}: {one.reason}")
            chunks = runtime.runs.round_view(Piece(run.id, 0)).chunks.values()
            for number, chunk in enumerate(chunks):
                workers = " then ".join(attempt.worker for attempt in chunk.attempts)
                print(f"chunk {number}: {len(chunk.tickers)} tickers by {workers}")
            completed = Counter(result.ticker for chunk in chunks for result in chunk.results)
            print(f"{ended.state} in {took_s:.0f} s: {ended.counts}; {load()}")
            print(f"digest of all weights: {digest(tickers_of(runtime, run.id))}")
            failed = ended.counts.succeeded != len(tickers) or set(completed.values()) != {1} or not ended.lost_workers
            sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
