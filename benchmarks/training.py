"""How long a training takes on a fresh server, and again; its model's accuracy next to persistence, and its loop.

python -m benchmarks.training --data DIR     DIR holds PETR4.SA.csv

The second split is that of legacy contract v2: PETR4.SA from 2018-01-01 to
2024-07-19, windows of 60 sessions, the last 15 % of them to test. Its own
figure there is a MAPE of 1.83 %, that of legacy contract v1's code 29 %.

The windows per second are those of ``benchmarks/training_loops.py``.
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.server import post, running_server
from benchmarks.training_loops import loop_speeds
from services.prices.csv import CsvSource
from services.training.train import DEFAULT_SESSIONS

LEGACY_V2_SPLIT = {"ticker": "PETR4.SA", "start_date": "2018-01-01", "end_date": "2024-07-19", "train_size": 0.85}

MAX_LIGHTNING_SHARE, MIN_RATIO = 0.1, 1.5


def main() -> None:
    """Print one line per request."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="folder with PETR4.SA.csv")
    folder = arguments.parse_args().data.resolve()
    requests: dict[str, dict[str, Any]] = {
        "return_lstm, 2000 sessions": {"ticker": "PETR4.SA"},
        "return_lstm, second split": LEGACY_V2_SPLIT,
        "price_lstm, second split": {**LEGACY_V2_SPLIT, "model": "price_lstm"},
        "ratio_lstm, second split": {**LEGACY_V2_SPLIT, "model": "ratio_lstm"},
    }
    print(
        f"{'request':28} {'seconds':>8} {'again':>6} {'test MAPE':>10} {'persistence':>12} {'ratio':>7}  "
        "coverage, one step"
    )
    for name, body in requests.items():
        (first, again), result = _train(folder, body)
        test = result["test"]
        model, persistence = test["model"]["mape"], test["persistence"]["mape"]
        coverage = ", ".join(f"{one['level']:.0%}: {one['empirical_coverage']:.1%}" for one in test["coverage"])
        ratio = model / persistence
        print(f"{name:28} {first:8.1f} {again:6.1f} {model:10.3%} {persistence:12.3%} {ratio:7.4f}  {coverage}")
    _print_loops(folder)


def _print_loops(folder: Path) -> None:
    series = CsvSource(folder).history("PETR4.SA", datetime.now(UTC)).series.tail(DEFAULT_SESSIONS)
    speeds = loop_speeds(series.bars)
    print(
        f"\nwindows per second of processor time, return_lstm: ours {speeds.ours:,.0f}, plain torch {speeds.bare:,.0f}"
    )
    print(
        f"Lightning's share: {speeds.lightning_share:.1%}; aim: at most {MAX_LIGHTNING_SHARE:.0%}. "
        f"Largest difference of a weight: {speeds.difference:g}"
    )
    ratio = speeds.ours_on_original / speeds.original
    print(
        f"windows per second elapsed, the first original project's network: ours {speeds.ours_on_original:,.0f}, "
        f"its own loop {speeds.original:,.0f}: {ratio:.2f} times; aim: at least {MIN_RATIO:g}"
    )


def _train(folder: Path, body: dict[str, Any]) -> tuple[list[float], dict[str, Any]]:
    """Seconds from request to answer, the first with all imports, and the result."""
    seconds = []
    with (
        tempfile.TemporaryDirectory() as var,
        running_server({"PRICE_SOURCE": "csv", "PRICE_DIR": str(folder), "DATA_DIR": var}) as url,
    ):
        for _ in range(2):
            started = time.perf_counter()
            answer = post(f"{url}/models/train", body)
            seconds.append(time.perf_counter() - started)
    return seconds, answer["result"]


if __name__ == "__main__":
    main()
