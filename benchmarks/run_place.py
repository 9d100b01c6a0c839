"""What the benchmarks of runs share: a universe of real prices, a run that is started and followed, and its digests."""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.universe_prices import prices_in
from bootstrap import Runtime
from config import Settings
from schemas.run import Run, RunRequest, RunTicker
from services.prices.csv.writing import to_csv
from services.runs.submission import start_run

UNIVERSE = "benchmark"
POLL_S = 0.5


def add_price_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="of TICKER.csv files, or of arrays")
    parser.add_argument("--markets", type=Path, metavar="DIR", help="of the indices' CSV files; by default --data")


def write_universe(place: Path, options: argparse.Namespace) -> tuple[str, ...]:
    """Files of the first ``--tickers`` of ``--data`` and of the indices, as a universe below ``place``."""
    folder, now = place / "universes" / UNIVERSE, datetime.now(UTC)
    folder.mkdir(parents=True, exist_ok=True)
    source, found = prices_in(options.data, options.markets)
    tickers = [ticker for ticker in found if not ticker.startswith("^")][: options.tickers]
    if len(tickers) < options.tickers:
        sys.exit(f"expected {options.tickers} tickers in {options.data}, found {len(tickers)}")
    markets, indices = prices_in(options.markets or options.data)
    for ticker in tickers:
        (folder / f"{ticker}.csv").write_text(to_csv(source.history(ticker, now).series), encoding="utf-8")
    for ticker in filter(lambda one: one.startswith("^"), indices):
        (folder / f"{ticker}.csv").write_text(to_csv(markets.history(ticker, now).series), encoding="utf-8")
    return tuple(tickers)


def runtime_of(data: Path, **settings: Any) -> Runtime:
    """A runtime on the folder whose only prices are those of its universe."""
    prices = data / "universes" / UNIVERSE
    chosen = Settings(
        _env_file=None, data_dir=data, price_source="csv", price_dir=prices, log_level="warning", **settings
    )
    return Runtime.from_settings(chosen)


def start(runtime: Runtime, tickers: tuple[str, ...], **request: Any) -> Run:
    """A run that has been submitted."""
    asked = RunRequest.model_validate({"tickers": tickers, **request})
    return start_run(
        asked,
        runtime.runs,
        runtime.run_executor,
        runtime.registry,
        runtime.run_universes,
        runtime.clock(),
        secrets.token_hex(4),
        engine=runtime.run_engine,
        n_workers=runtime.settings.run_workers,
        jobs=runtime.jobs,
    )


def follow(runtime: Runtime, run_id: str, on_state: Callable[[Run], None] = lambda _: None) -> Run:
    """The run when it has ended."""
    while True:
        run = runtime.runs.status(run_id, runtime.clock())
        on_state(run)
        if run.ended_at is not None:
            return run
        time.sleep(POLL_S)


def tickers_of(runtime: Runtime, run_id: str) -> tuple[RunTicker, ...]:
    return runtime.runs.tickers(run_id, None, 10_000, None, runtime.clock()).tickers


def digest(tickers: tuple[RunTicker, ...]) -> str:
    """One digest of the weights of all models: equal where every model is equal."""
    lines = "\n".join(f"{one.ticker} {one.weights_sha256}" for one in tickers)
    return sha256(lines.encode()).hexdigest()[:16]


def load() -> str:
    """What else the machine does, for the reader of a figure."""
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
