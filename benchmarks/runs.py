"""Tickers per hour of a run by local workers, and where the time of a ticker goes.

    .venv/bin/python -m benchmarks.runs --data DIR [--tickers 16] [--epochs 50] [--workers 1 2] [--action fine_tune]

Each number of workers does the same run on a store of its own, from real prices. Prints the tickers per hour and the
ratio to one worker, which are of use from a machine at rest only. The processor seconds of a ticker by phase hold on a
busy one too: median and mean. ``import`` is what a worker needs before its first ticker, once a chunk; ``fetch`` is
that of the coordinator, from files. The digests of all weights must be the same.
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

from benchmarks.run_place import add_price_options, digest, follow, load, runtime_of, start, tickers_of, write_universe
from bootstrap import Runtime
from config import ROOT
from schemas.run import RunTicker
from services.runs.pieces import Piece
from services.runs.prices import pack

IMPORTS = "import worker, models.lstm.forecaster, services.prices.calendars"


def measured(n_workers: int, options: argparse.Namespace) -> tuple[float, str]:
    """Tickers per hour, and the digest of all weights."""
    n_tickers, action = options.tickers, options.action
    with tempfile.TemporaryDirectory() as place:
        data = Path(place)
        tickers = write_universe(data, options)
        runtime = runtime_of(data, run_workers=n_workers)
        training = {"training": {"epochs": options.epochs}} if action in ("train", "fine_tune") else {}
        began = time.monotonic()
        run = start(runtime, tickers, action=action, **training)
        ended = follow(runtime, run.id)
        took_s = time.monotonic() - began
        runtime.run_executor.close()
        if ended.counts.succeeded != n_tickers:
            sys.exit(f"expected {n_tickers} tickers to succeed, found {ended.counts}: {ended.failures}")
        done = tickers_of(runtime, run.id)
        n_chunks = len(runtime.runs.round(Piece(run.id, 0)).chunks)
        per_hour = 3600 * n_tickers / took_s
        print(f"{n_workers} workers: {n_tickers} tickers in {took_s:.1f} s, {per_hour:,.0f} an hour; {load()}")
        print(f"  import     {import_s():6.2f} s a chunk, of {n_tickers / n_chunks:.1f} tickers")
        print(f"  fetch      {fetch_s(runtime, tickers):6.2f} s mean, by the coordinator")
        print_phases(done)
        return per_hour, digest(done)


def print_phases(tickers: tuple[RunTicker, ...]) -> None:
    """Processor seconds of a ticker by phase."""
    spent: dict[str, list[float]] = defaultdict(list)
    for one in tickers:
        for phase, cpu_s in one.cpu_seconds.items():
            spent[phase].append(cpu_s)
    for phase, each in spent.items():
        if phase != "fetch":  # of the worker, from the object that the coordinator has stored
            print(f"  {phase:10} {median(each):6.2f} s median, {mean(each):6.2f} s mean")
    totals = [sum(one.cpu_seconds.values()) for one in tickers]
    print(f"  sum        {median(totals):6.2f} s median, {mean(totals):6.2f} s mean")


def fetch_s(runtime: Runtime, tickers: tuple[str, ...]) -> float:
    """Processor seconds to read and pack the prices of a ticker."""
    began = time.process_time()
    pack([runtime.prices.history(ticker, runtime.clock()) for ticker in tickers])
    return (time.process_time() - began) / len(tickers)


def import_s() -> float:
    """Processor seconds of the imports of a worker in a fresh interpreter."""
    before = os.times()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_price_options(parser)
    parser.add_argument("--tickers", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--action", default="fine_tune", choices=["train", "fine_tune", "forecast", "backtest"])
    options = parser.parse_args()
    found = [measured(workers, options) for workers in options.workers]
    for workers, (per_hour, _) in zip(options.workers[1:], found[1:], strict=True):
        print(f"{workers} workers do {per_hour / found[0][0]:.2f} times as many as {options.workers[0]}")
    digests = {digest for _, digest in found}
    print(f"digest of all weights: {', '.join(sorted(digests))}")
    sys.exit(0 if len(digests) == 1 else 1)


if __name__ == "__main__":
    main()
