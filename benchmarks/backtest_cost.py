"""Seconds that backtests take, of one core and elapsed, next to the estimate that decides whether they are jobs.

python -m benchmarks.backtest_cost

Every baseline takes part. The backtests from 2018-01-02 have 250 origins.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from bootstrap import Runtime
from config import Settings, prepare_environment
from schemas.backtest import BacktestRequest
from services.backtest import prepare_backtest, run_backtest

NOW = datetime(2026, 11, 21, tzinfo=UTC)
STARTS = ("2018-12-24", "2018-01-02", "2015-01-02", "2010-01-04", "2001-01-02")
FINE: dict[str, Any] = {"quantile_levels": [k / 100 for k in range(1, 100)]}


def main() -> None:
    """Print one line for each backtest of the bundled model on the sample's index."""
    prepare_environment()
    runtime = Runtime.from_settings(Settings(_env_file=None, price_source="sample", data_dir=Path(mkdtemp())))
    requests: list[dict[str, Any]] = [
        {"start": start, "horizon": horizon} for start in STARTS for horizon in (1, 5, 30)
    ]
    requests += [{"start": "2001-01-02", "horizon": horizon, **FINE} for horizon in (5, 30)]
    requests += [{"start": "2001-01-02", "stride": 5}, {"start": "2001-01-02", "stride": 50, "horizon": 30}]
    print("origins  horizon  levels  stride  estimated s  processor s  elapsed s")
    for fields in [requests[0], *requests]:  # the first one imports libraries, and is repeated
        request = BacktestRequest(ticker="^GSPC", **fields)
        prepared = prepare_backtest("default", request, runtime.registry, runtime.model_prices, NOW)
        used, began = time.process_time(), time.perf_counter()
        answer = run_backtest(prepared)
        took, elapsed = time.process_time() - used, time.perf_counter() - began
        sizes = f"{answer.n_origins:7}  {request.horizon:7}  {len(request.quantile_levels):6}  {request.stride:6}"
        print(f"{sizes}  {prepared.seconds:11.2f}  {took:11.2f}  {elapsed:9.2f}")


if __name__ == "__main__":
    main()
