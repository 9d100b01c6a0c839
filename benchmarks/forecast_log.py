"""The cost of logging: requests a second of POST /predict/live in process, with the forecast log and without.

    python -m benchmarks.forecast_log [--requests 400] [--rounds 15]

Prices are cached and their next session is open, so every forecast is logged. Requests cycle through ``N_SYMBOLS``
symbols, and each round begins with an empty log: each symbol is written once a round. Rounds with and without a log
alternate; each pair is compared, and the median reported, because a machine may change its speed.
"""

import argparse
import asyncio
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from fastapi import FastAPI

from benchmarks.predict import N_SESSIONS, WalkFetcher, post_in_process
from config import Settings
from services.forecasting.forecast import Forecast
from services.monitoring.forecast_log import FORECASTS, ForecastLog
from services.prices.cache import CachedSource
from services.storage.store import LocalArtifactStore
from tests.fakes import application, new_york_sessions, use_prices

NOW = datetime.combine(new_york_sessions(N_SESSIONS)[-1].item(), datetime.min.time(), UTC).replace(hour=23)
N_SYMBOLS = 20
AIM_PERCENT = 5.0


class NoLog(ForecastLog):
    def record(self, kind: str, elapsed_ms: float, *forecasts: Forecast) -> None:
        pass


def main() -> None:
    """Print requests a second with and without, and the difference in per cent."""
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.forecast_log", description=(__doc__ or "").split("\n")[0]
    )
    arguments.add_argument("--requests", type=int, default=400, help="of each round (default: %(default)s)")
    arguments.add_argument("--rounds", type=int, default=15, help="with and without (default: %(default)s)")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app = _app(Path(folder))
        store, writer = app.state.runtime.store, app.state.runtime.writer
        asyncio.run(_per_second(app, NoLog(store, writer), N_SYMBOLS))  # load prices and model
        without, logged = [], []
        for _ in range(chosen.rounds):
            without.append(asyncio.run(_per_second(app, NoLog(store, writer), chosen.requests)))
            logged.append(asyncio.run(_per_second(app, ForecastLog(store, writer), chosen.requests)))
        n_written = len(store.list_keys(FORECASTS))
    cost = 100 * median(1 - one / other for one, other in zip(logged, without, strict=True))
    speeds = f"without {median(without):.1f} requests/s, with {median(logged):.1f} requests/s"
    print(f"{speeds}, {n_written} forecasts logged")
    print(f"cost {cost:.1f} %, aim: at most {AIM_PERCENT:g} %")


def _app(folder: Path) -> FastAPI:
    app = application(Settings(_env_file=None, data_dir=folder), clock=lambda: NOW)
    use_prices(app, CachedSource(WalkFetcher(), LocalArtifactStore(folder), ttl_s=1e9))
    return app


async def _per_second(app: FastAPI, log: ForecastLog, n_requests: int) -> float:
    for key in app.state.runtime.store.list_keys(FORECASTS):
        app.state.runtime.store.delete(key)
    app.state.runtime.forecast_log = log
    app.state.runtime.writer.start()
    bodies = [json.dumps({"symbol": f"WALK{k % N_SYMBOLS:03}"}).encode() for k in range(n_requests)]
    started = time.perf_counter()
    for body in bodies:
        await post_in_process(app, "/predict/live", body)
    app.state.runtime.writer.flush()
    return n_requests / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
