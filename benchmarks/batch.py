"""Seconds of ``POST /predict/batch`` in process, from CSV files with 15 years of prices and their market.

    python -m benchmarks.batch [--symbols 500]

Three states of the same server. First: nothing is known of any symbol, so 500 origins of each are replayed. Restarted:
the store has the replays, and the process nothing. Warm: the process has answered the same symbols before.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from fastapi import FastAPI

from benchmarks.predict import post_in_process
from config import Settings
from schemas.batch import MAX_SYMBOLS
from services.prices.csv.writing import to_csv
from services.prices.market import MARKETS
from tests.fakes import application, history_of, new_york_sessions, random_walk

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
N_SESSIONS = 3_600
CASES = ((1, (0.8, 0.95)), (26, (0.8, 0.95)), (8, tuple(k / 20 for k in range(10, 20))))


@dataclass(frozen=True)
class Took:
    """Seconds of one batch: elapsed, and of processor time, which other processes hardly change."""

    elapsed: float
    processor: float

    def __str__(self) -> str:
        return f"{self.elapsed:6.2f} ({self.processor:5.2f})"


@dataclass(frozen=True)
class BatchSeconds:
    """One batch in each state, and the bytes of its answer."""

    first: Took
    restarted: Took
    warm: Took
    n_bytes: int


def main() -> None:
    """Print one line per number of sessions and levels."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--symbols", type=int, default=MAX_SYMBOLS, help="symbols per batch (default: %(default)s)")
    n_symbols = parser.parse_args().symbols
    print(f"{n_symbols} symbols, elapsed (processor) seconds: first, restarted, warm; MB of JSON")
    with price_folder(n_symbols, N_SESSIONS) as folder:
        for days, levels in CASES:
            took = batch_seconds(folder, n_symbols, days, levels)
            print(
                f"{days:2} days, {len(levels):2} levels: {took.first}, {took.restarted}, {took.warm}; "
                f"{took.n_bytes / 1e6:.2f}",
                flush=True,
            )


@contextmanager
def price_folder(n_symbols: int, n_sessions: int) -> Iterator[Path]:
    """A folder of random walks that differ, and of the market of New York; the last session is before NOW."""
    sessions = new_york_sessions(8_700, date(1990, 1, 2))[-n_sessions:]
    market = MARKETS["XNYS"]
    names = [*_symbols(n_symbols), market.index, market.implied or ""]
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(names):
            start = 20.0 if name == market.implied else 100.0
            history = history_of(random_walk(n_sessions, seed, start=start), name, sessions)
            (Path(folder) / f"{name}.csv").write_text(to_csv(history.series))
        yield Path(folder)


def batch_seconds(folder: Path, n_symbols: int, days: int, levels: tuple[float, ...]) -> BatchSeconds:
    """One batch in each of the three states."""
    body = json.dumps({"symbols": _symbols(n_symbols), "days": days, "levels": levels}).encode()
    with tempfile.TemporaryDirectory() as var:
        first, _ = _measured(_app(folder, Path(var)), body)
        restarted_app = _app(folder, Path(var))
        restarted, content = _measured(restarted_app, body)
        warm, _ = _measured(restarted_app, body)
    failed = [one["symbol"] for one in json.loads(content)["results"] if one["error"]]
    if failed:
        raise RuntimeError(f"no forecast of {', '.join(failed)}")
    return BatchSeconds(first, restarted, warm, len(content))


def _app(folder: Path, var: Path) -> FastAPI:
    """A server that has loaded its model and its calendar, by an answer about one symbol."""
    settings = Settings(_env_file=None, data_dir=var, price_source="csv", price_dir=folder)
    app = application(settings, lambda: NOW)
    one = json.dumps({"symbols": _symbols(1)}).encode()
    asyncio.run(post_in_process(app, "/predict/batch", one))
    return app


def _measured(app: FastAPI, body: bytes) -> tuple[Took, bytes]:
    started, used = time.perf_counter(), time.process_time()
    content = asyncio.run(post_in_process(app, "/predict/batch", body))
    took = Took(time.perf_counter() - started, time.process_time() - used)
    app.state.runtime.writer.flush()
    return took, content


def _symbols(count: int) -> list[str]:
    return [f"WALK{k:03}" for k in range(count)]


if __name__ == "__main__":
    main()
