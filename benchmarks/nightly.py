"""The time of a nightly run, phase by phase, and of reading what it has published.

    .venv/bin/python -m benchmarks.nightly --data FOLDER [--tickers 247] [--sessions 5] [--reads 2000]

FOLDER has TICKER.csv files, or arrays NAME.npz as ``benchmarks.universe_prices`` describes them, from which files are
written first. The indices of the markets may lie in the folder or in ``--markets``. The clock is set back: a first
night forecasts all tickers some sessions before the last one, so that the measured night has these forecasts to score.
The last part starts a server on the same store and requests ``GET /forecasts/latest`` over one connection.
"""

import argparse
import http.client
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.server import running_server
from benchmarks.universe_prices import prices_in
from bootstrap import Runtime
from config import Settings
from services.monitoring.scoring_run import run_scoring
from services.prices.calendars import last_completed_session, next_sessions
from services.prices.csv import CsvSource
from tests.fakes import write_prices

MOST_S, MOST_MS = 180.0, 5.0
MARKETS = ("^GSPC", "^VIX", "^BVSP")
NEW_YORK = "XNYS"


def main() -> None:
    """Print the time of each phase, the whole, and the percentiles of the reads."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.nightly", description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="of prices")
    arguments.add_argument("--markets", type=Path, metavar="FOLDER", help="of the indices' CSV files")
    arguments.add_argument("--tickers", type=int, default=247, help="of the run (default: %(default)s)")
    arguments.add_argument("--sessions", type=int, default=5, help="to score (default: %(default)s)")
    arguments.add_argument("--reads", type=int, default=2000, help="of the published forecasts (default: %(default)s)")
    chosen = arguments.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "prices"
        folder.mkdir()
        tickers = prepare(chosen.data, chosen.markets or chosen.data, folder, chosen.tickers)
        settings = {
            "DATA_DIR": str(Path(scratch) / "store"),
            "PRICE_SOURCE": "csv",
            "PRICE_DIR": str(folder),
            "NIGHTLY_TICKERS": ",".join(tickers),
        }
        night(settings, folder, tickers[0], chosen.sessions)
        read(settings, chosen.reads, len(tickers))


def prepare(data: Path, markets: Path, folder: Path, count: int) -> list[str]:
    """Write the first ``count`` tickers with the latest last session, and the indices, as CSV files."""
    now = datetime.now(UTC)
    source, names = prices_in(data, markets)
    histories = {ticker: source.history(ticker, now) for ticker in names}
    shares = [
        one for ticker, one in histories.items() if not ticker.startswith("^") and one.series.exchange == NEW_YORK
    ]
    newest = max(one.as_of for one in shares)
    long = [one for one in shares if one.as_of == newest and len(one.series) > 1000][:count]
    for history in (*long, *(histories[ticker] for ticker in MARKETS if ticker in histories)):
        write_prices(folder, history)
    return [one.series.ticker for one in long]


def night(settings: dict[str, str], folder: Path, ticker: str, n_sessions: int) -> None:
    """Forecast some sessions before the end, then measure the night of the last one."""
    last = CsvSource(folder).history(ticker, datetime.now(UTC)).series.sessions
    then, now = (evening(last[row].item()) for row in (-1 - n_sessions, -1))
    earlier = runtime_at(settings, then).nightly.publish(then, 1e9)
    runtime = runtime_at(settings, now)  # of a process that has just started
    whole = time.perf_counter()
    with timed("fetch (prices on disk)"):
        runtime.nightly.fetch(None, now, 1e9)
    with timed("score and judge drift"):
        scored = run_scoring(runtime.store, runtime.prices, runtime.registry, now, runtime.meter)
    with timed("forecast and publish"):
        report = runtime.nightly.publish(now, 1e9)
    took_s = time.perf_counter() - whole
    print(
        f"{report.n_made} forecasts published, {report.n_failed} failed; {scored.n_pairs} of {earlier.n_made} "
        f"forecasts scored in {scored.n_sessions} sessions; drift {scored.drift}"
    )
    print(f"night {took_s:.1f} s on {os.cpu_count()} cores, aim: at most {MOST_S:g} s")
    with timed("the same night again"):
        runtime_at(settings, now).nightly.publish(now, 1e9)


def runtime_at(settings: dict[str, str], now: datetime) -> Runtime:
    """A runtime whose clock stands still."""
    given: dict[str, Any] = {name.lower(): value for name, value in settings.items()}
    return Runtime.from_settings(Settings(_env_file=None, **given), clock=lambda: now)


def evening(session: object) -> datetime:
    """When the session has closed, and the next has not begun."""
    day = np.datetime64(str(session)).astype("datetime64[D]").item()
    now = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=23, minutes=30)
    assert last_completed_session(NEW_YORK, now) == day  # noqa: S101 - our own mistake
    assert next_sessions(NEW_YORK, day, 1)[0] > day  # noqa: S101 - our own mistake
    return now


def read(settings: dict[str, str], n_reads: int, n_tickers: int) -> None:
    """Request the published forecasts from a server; every answer is read to its end and checked."""
    with running_server(settings) as url:
        address = urlsplit(url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port)

        def get(path: str, headers: dict[str, str], status: int) -> int:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == status, body[:200]  # noqa: S101 - a wrong answer must not count
            return len(body)

        connection.request("GET", "/forecasts/latest")
        first = connection.getresponse()
        body, tag = first.read(), first.headers["ETag"]
        assert body.count(b'"closes"') == n_tickers  # noqa: S101 - a wrong answer must not count
        packed = {"Accept-Encoding": "gzip"}
        for name, path, headers, status in (
            ("all tickers, gzip", "/forecasts/latest", packed, 200),
            ("all tickers, plain", "/forecasts/latest", {"Accept-Encoding": "identity"}, 200),
            ("unchanged, 304", "/forecasts/latest", {"If-None-Match": tag}, 304),
            ("sorted", "/forecasts/latest?sort=-relative_move&limit=50", packed, 200),
        ):
            times, size = measured(partial(get, path, headers, status), n_reads)
            p50, p99 = np.percentile(times, [50, 99])
            print(f"GET {name}: {size / 1000:.1f} kB, p50 {p50:.2f} ms, p99 {p99:.2f} ms, aim: at most {MOST_MS:g} ms")


def measured(call: Callable[[], int], count: int) -> tuple[list[float], int]:
    """The milliseconds of each call, and the size of the last answer."""
    times, size = [], 0
    for _ in range(count):
        started = time.perf_counter()
        size = call()
        times.append(1000 * (time.perf_counter() - started))
    return times, size


@contextmanager
def timed(phase: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(
        f"{phase}: {time.perf_counter() - wall:.1f} s, {time.process_time() - cpu:.1f} s of processor time", flush=True
    )


if __name__ == "__main__":
    main()
