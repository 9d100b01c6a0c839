"""Tickers per hour of a run by local workers, and where the time of a ticker goes.

    python -m benchmarks.runs [--tickers 16] [--epochs 50] [--workers 1 2] [--action fine_tune]

Each number of workers does the same run on a store of its own, from real prices. Prints the tickers per hour and the
ratio to one worker, and for each phase the median and the mean seconds of a ticker. ``import`` is what a worker needs
before its first ticker, once a chunk. ``elsewhere`` is the rest of a worker's time: its documents in the store, and
what it waits for. The digests of all weights must be the same. Run it on a machine at rest.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

from benchmarks.run_place import digest, follow, load, runtime_of, start, tickers_of, write_universe
from bootstrap import ROOT
from schemas.run import RunTicker
from services.runs.pieces import Piece

IMPORTS = "import worker, models.lstm.forecaster, services.prices.calendars"


def measured(n_workers: int, n_tickers: int, action: str, epochs: int) -> tuple[float, str]:
    """Tickers per hour, and the digest of all weights."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place)
        tickers = write_universe(data, n_tickers)
        runtime = runtime_of(data, run_workers=n_workers)
        training = {"epochs": epochs} if action in ("train", "fine_tune") else None
        began = time.monotonic()
        run = start(runtime, tickers, action=action, **({} if training is None else {"training": training}))
        ended = follow(runtime, run.id)
        took_s = time.monotonic() - began
        runtime.run_executor.close()
        if ended.counts.succeeded != n_tickers:
            sys.exit(f"expected {n_tickers} tickers to succeed, found {ended.counts}: {ended.failures}")
        done = tickers_of(runtime, run.id)
        chunks = runtime.runs.round_view(Piece(run.id, 0)).chunks.values()
        busy_s = sum(
            ((chunk.attempts[-1].ended_at or chunk.touched_at) - chunk.attempts[-1].claimed_at).total_seconds()
            for chunk in chunks
        )
        per_hour = 3600 * n_tickers / took_s
        print(f"{n_workers} workers: {n_tickers} tickers in {took_s:.1f} s, {per_hour:,.0f} an hour; {load()}")
        print_phases(done, len(chunks), busy_s)
        return per_hour, digest(done)


def print_phases(tickers: tuple[RunTicker, ...], n_chunks: int, busy_s: float) -> None:
    """Median and mean of each phase, in seconds of a ticker."""
    spent: dict[str, list[float]] = defaultdict(list)
    for one in tickers:
        for phase, seconds in one.seconds.items():
            spent[phase].append(seconds)
    print(f"  import     {import_s():8.2f} s a chunk, of {len(tickers) / n_chunks:.0f} tickers")
    for phase, seconds in spent.items():
        print(f"  {phase:10} {median(seconds):8.2f} s median, {mean(seconds):8.2f} s mean")
    elsewhere = (busy_s - sum(map(sum, spent.values()))) / len(tickers)
    print(f"  elsewhere  {elsewhere:8.2f} s mean")


def import_s() -> float:
    """Wall time of the imports of a worker in a fresh interpreter."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickers", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--action", default="fine_tune", choices=["train", "fine_tune", "forecast", "backtest"])
    options = parser.parse_args()
    found = [measured(workers, options.tickers, options.action, options.epochs) for workers in options.workers]
    for workers, (per_hour, _) in zip(options.workers[1:], found[1:], strict=True):
        print(f"{workers} workers do {per_hour / found[0][0]:.2f} times as many as {options.workers[0]}")
    digests = {digest for _, digest in found}
    print(f"digest of all weights: {', '.join(sorted(digests))}")
    sys.exit(0 if len(digests) == 1 else 1)


if __name__ == "__main__":
    main()
