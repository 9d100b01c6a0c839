"""Our forecasts against those of other libraries: the same tickers, origins, levels and scorer for all.

make peers DATA=DIR                                  installs the other libraries, then runs what follows
.venv/bin/python -m benchmarks.peers --data DIR      TICKER.csv files with ^GSPC and ^VIX; results in build/peers.json

The American tickers are split in two halves by turns in alphabetical order, as by ``benchmarks.universe``. Our network
is fitted to one half before 2015, and stopped and calibrated on its sessions of 2015 and 2016. Twelve tickers, drawn
from the other half with a fixed seed, are forecast from one session in twenty from January 2017 on. Every method knows
everything up to the origin. Each runs in processes of its own with one thread, two at a time; times are processor time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.peers.methods import METHODS, REFERENCE, UNIVERSAL
from benchmarks.peers.report import report
from benchmarks.peers.scores import accuracy, judge
from benchmarks.peers.task import HORIZON, Past, Task
from benchmarks.peers.worker import TASK
from benchmarks.universe_prices import read_universe
from services.prices.series import PriceHistory

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv/peers/bin/python"
MIN_KNOWN = 1000  # sessions before the test
STOP_FROM, TEST_FROM = date(2015, 1, 1), date(2017, 1, 1)
SEED = 0
FIRST = (REFERENCE, UNIVERSAL)  # the skill needs the one, another method the weights of the other


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    names = [name for name in METHODS if name in FIRST or not chosen.methods or name in chosen.methods]
    started = time.perf_counter()
    with TemporaryDirectory() as scratch:
        folder = (chosen.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        task = task_of(read_universe(chosen.data).us, chosen)
        task.save(folder / TASK["fit"])
        task.questions.save(folder / TASK["answer"])
        costs = measured(names, folder, chosen.python)
        found = {name: judge(task, _recorded(folder / f"{name}.npz")) for name in names}
    figures = {name: accuracy(one, found[REFERENCE], found[UNIVERSAL]) for name, one in found.items()}
    results = {
        "tickers": [past.ticker for past in task.tested],
        "origins": [str(origin) for origin in task.origins],
        "n_forecasts": sum(task.rows(past).size for past in task.tested),
        "methods": {name: {"accuracy": asdict(figures[name]), "cost": costs[name]} for name in names},
    }
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    chosen.results.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(report(task, figures, costs))
    _log(f"all in {time.perf_counter() - started:.0f} s; figures in {chosen.results}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of TICKER.csv files, with the indices of the exchange")
    parser.add_argument("--methods", nargs="*", choices=METHODS, help="only these; the reference and ours always run")
    parser.add_argument("--tickers", type=int, default=12, help="tickers tested")
    parser.add_argument("--stop-from", type=date.fromisoformat, default=STOP_FROM, help="fits stop or calibrate on")
    parser.add_argument("--test-from", type=date.fromisoformat, default=TEST_FROM, help="first origin")
    parser.add_argument("--test-until", type=date.fromisoformat, help="last origin")
    parser.add_argument("--python", type=Path, default=PEERS, help="interpreter that has the other libraries")
    parser.add_argument("--folder", type=Path, help="keep forecasts and models here")
    parser.add_argument("--results", type=Path, default=Path("build/peers.json"), help="file of all figures")
    return parser


def task_of(histories: Mapping[str, PriceHistory], chosen: argparse.Namespace) -> Task:
    """The prices of both halves, and the origins: one session in HORIZON."""
    stop_from, test_from = np.datetime64(chosen.stop_from), np.datetime64(chosen.test_from)
    usable = [
        Past(ticker, one.series.sessions, one.inputs)
        for ticker, one in histories.items()
        if int(np.searchsorted(one.series.sessions, test_from)) >= MIN_KNOWN
    ]
    others, unseen = usable[::2], usable[1::2]
    drawn = np.sort(np.random.default_rng(SEED).choice(len(unseen), min(chosen.tickers, len(unseen)), replace=False))
    tested = tuple(unseen[k] for k in drawn)
    sessions = np.unique(np.concatenate([past.sessions for past in tested]))
    last = sessions[-1] if chosen.test_until is None else np.datetime64(chosen.test_until)
    origins = sessions[(sessions >= test_from) & (sessions <= last)][:-1:HORIZON]
    return Task(tested, tuple(others), stop_from, test_from, origins)


def measured(names: Sequence[str], folder: Path, peers: Path) -> dict[str, dict[str, float]]:
    """The costs of every method, once its forecasts are in the folder; what an earlier run has left there is kept."""
    with ThreadPoolExecutor(2) as pool:
        for part in ([name for name in names if name in FIRST], [name for name in names if name not in FIRST]):
            list(pool.map(lambda name: _run(name, "fit", folder, peers), part))
        list(pool.map(lambda name: _run(name, "answer", folder, peers), names))
    return {name: {**_costs(name, "fit", folder), **_costs(name, "answer", folder)} for name in names}


def _run(name: str, stage: str, folder: Path, peers: Path) -> None:
    if _costs_file(name, stage, folder).exists():
        return
    python = sys.executable if METHODS[name].own else str(peers)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [python, "-m", "benchmarks.peers.worker", name, stage, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    _log(f"{name}, {stage}: {_costs(name, stage, folder)}")


def _costs(name: str, stage: str, folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(_costs_file(name, stage, folder).read_text(encoding="utf-8"))
    return found


def _costs_file(name: str, stage: str, folder: Path) -> Path:
    return folder / f"{name}.{stage}.json"


def _recorded(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
