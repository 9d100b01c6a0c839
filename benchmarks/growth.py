"""How time and memory grow with the number of tickers, of origins and of sessions.

    python -m benchmarks.growth [--repeats 3] [--only batch backtest …]

Each size is measured in a process of its own, after a small run that imports the libraries. An exponent is the slope of
the logarithm of the measure over the logarithm of the size, with its standard error; 1 is proportional. Memory is the
peak above what the process had before. Random walks stand in for prices.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.batch import price_folder
from bootstrap import Runtime
from config import Settings, prepare_environment
from schemas.backtest import BacktestRequest
from schemas.common import DEFAULT_LEVELS
from schemas.train import TrainRequest
from services.backtest import prepare_backtest, run_backtest
from services.training.train import train_model

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
LIMIT = 1.1
MEASURES = ("elapsed", "processor", "memory")
TICKER = "WALK000"
DAYS = 26

Work = Callable[[], object]
"""What is measured."""


@dataclass(frozen=True)
class Growth:
    """An exponent, and its standard error."""

    exponent: float
    error: float

    @property
    def verdict(self) -> str:
        if self.exponent <= LIMIT:
            return "fine"
        return "not above, within two standard errors" if self.exponent - 2 * self.error <= LIMIT else "too fast"


@dataclass(frozen=True)
class Case:
    """Something that grows.

    Attributes:
        sizes: ascending; the smallest is also the small run before each measurement.
        prepared: a context with the work of one size, prepared but not begun.
    """

    sizes: tuple[int, ...]
    prepared: Callable[[int], "Iterator[Work]"]


def main() -> None:
    """Print one line per case and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each size (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=sorted(CASES), default=[*CASES], help="some of the cases")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    prepare_environment()
    if arguments.measure:
        name, size = arguments.measure
        print(json.dumps(measured(CASES[name], int(size))))
        return
    print(f"{'case':26} {'sizes':>12} {'measure':>10}  exponent  error  from … to            aim: at most {LIMIT:g}")
    for name in arguments.only:
        sizes, found = [], []
        for size in CASES[name].sizes:
            for _ in range(arguments.repeats):
                sizes.append(size)
                found.append(_in_own_process(name, size))
        for measure in MEASURES:
            values = [one[measure] for one in found]
            one = growth(sizes, values)
            smallest, largest = (_typical(sizes, values, size) for size in (sizes[0], sizes[-1]))
            unit = "MB" if measure == "memory" else "s"
            print(
                f"{name:26} {f'{sizes[0]} … {sizes[-1]}':>12} {measure:>10}  {one.exponent:8.2f} {one.error:6.2f}  "
                f"{smallest:.3g} … {largest:.3g} {unit}: {one.verdict}",
                flush=True,
            )


def growth(sizes: Sequence[float], values: Sequence[float]) -> Growth:
    """The slope of log value over log size by least squares; at least three points, of two sizes or more."""
    x, y = np.log(sizes), np.log(np.maximum(values, 1e-9))
    distance = x - x.mean()
    exponent = float(distance @ y / (distance @ distance))
    residuals = y - y.mean() - exponent * distance
    variance = float(residuals @ residuals) / (x.size - 2)
    return Growth(exponent, float(np.sqrt(variance / (distance @ distance))))


def measured(case: Case, size: int) -> dict[str, float]:
    """Elapsed and processor seconds and the peak of memory in MB, of one size."""
    with contextmanager(case.prepared)(case.sizes[0]) as work:
        work()
    with contextmanager(case.prepared)(size) as work:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the small run left free would hide part of the peak
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _memory("VmRSS")
        started, used = time.perf_counter(), time.process_time()
        work()
        elapsed, processor = time.perf_counter() - started, time.process_time() - used
        return {"elapsed": elapsed, "processor": processor, "memory": max(_memory("VmHWM") - before, 0.1)}


def _memory(field: str) -> float:
    """A field of the process's status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def _in_own_process(name: str, size: int) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.growth", "--measure", name, str(size)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _typical(sizes: Sequence[int], values: Sequence[float], size: int) -> float:
    return float(np.median([value for one, value in zip(sizes, values, strict=True) if one == size]))


@contextmanager
def _runtime(n_tickers: int, n_sessions: int) -> Iterator[Runtime]:
    with price_folder(n_tickers, n_sessions) as folder, tempfile.TemporaryDirectory() as var:
        settings = Settings(_env_file=None, data_dir=Path(var), price_source="csv", price_dir=folder)
        yield Runtime.from_settings(settings, lambda: NOW)


def _first_batch(n_tickers: int) -> Iterator[Work]:
    """Nothing is known of the tickers, so all are replayed."""
    with _runtime(n_tickers, 1_000) as runtime:
        yield lambda: _forecast(runtime, n_tickers)


def _later_batch(n_tickers: int) -> Iterator[Work]:
    """The store knows the replays."""
    with _runtime(n_tickers, 1_000) as runtime:
        _forecast(runtime, n_tickers)
        runtime.writer.flush()
        again = Runtime.from_settings(runtime.settings, lambda: NOW)
        yield lambda: _forecast(again, n_tickers)


def _forecast(runtime: Runtime, n_tickers: int) -> None:
    tickers = [f"WALK{k:03}" for k in range(n_tickers)]
    runtime.forecasting.forecast_tickers(None, tickers, DAYS, DEFAULT_LEVELS, NOW)


def _forecast_of_history(n_sessions: int) -> Iterator[Work]:
    with _runtime(1, n_sessions) as runtime:
        yield lambda: runtime.forecasting.forecast_ticker(None, TICKER, DAYS, DEFAULT_LEVELS, NOW)


def _backtest_of_history(n_sessions: int) -> Iterator[Work]:
    yield from _backtest(n_sessions, n_origins=250)


def _backtest_of_origins(n_origins: int) -> Iterator[Work]:
    yield from _backtest(8_000, n_origins)


def _backtest(n_sessions: int, n_origins: int) -> Iterator[Work]:
    with _runtime(1, n_sessions) as runtime:
        sessions = runtime.model_prices.history(TICKER, NOW).series.sessions
        request = BacktestRequest(ticker=TICKER, start=sessions[-1 - n_origins].item(), horizon=5)
        prepared = prepare_backtest("default", request, runtime.registry, runtime.model_prices, NOW)
        yield lambda: run_backtest(prepared)


def _training(n_sessions: int) -> Iterator[Work]:
    with _runtime(1, n_sessions) as runtime:
        first = runtime.model_prices.history(TICKER, NOW).series.first_session
        request = TrainRequest(ticker=TICKER, start_date=first, epochs=3, warm_start=False, max_seconds=3_600)
        yield lambda: train_model(request, runtime.model_prices, runtime.registry, "walk-1", NOW, lambda _: None)


SESSIONS = (1_000, 2_000, 4_000, 8_000)
CASES: Mapping[str, Case] = {
    "batch, first, tickers": Case((30, 60, 120, 240, 480), _first_batch),
    "batch, later, tickers": Case((30, 60, 120, 240, 480), _later_batch),
    "forecast, sessions": Case(SESSIONS, _forecast_of_history),
    "backtest, origins": Case((250, 500, 1_000, 2_000, 4_000), _backtest_of_origins),
    "backtest, sessions": Case(SESSIONS, _backtest_of_history),
    "training, sessions": Case(SESSIONS, _training),
}


if __name__ == "__main__":
    main()
