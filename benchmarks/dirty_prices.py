"""The effect of dirty prices on forecasts: thousands of corrupted series through the whole application.

    python -m benchmarks.dirty_prices [--series 20000] [--seed 1] [--processes 2]

Each clean series is forecast. Then ``benchmarks.dirt`` adds one to three kinds of dirt, and ``POST /predict/live``
forecasts it again; some are also backtested, analysed or trained on. The answer to dirty prices must equal the clean
one up to ``TOLERANCE``, or carry a warning that names a kind of dirt, or be a named 4xx. No answer may be a 5xx. Both
answers' intervals are compared with the close that came.

Exits with 1 where a bound is broken, and prints the seeds of the series that broke it.
"""

import argparse
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient
from numpy.random import Generator
from numpy.typing import NDArray

from benchmarks.dirt import DIRT, NAMED_BY, Case, clean_case
from config import Settings
from errors import TickerNotFound
from services.prices.calendars import history_at
from services.prices.cleaning import clean_raw
from services.prices.series import PriceHistory, RawBars
from tests.fakes import InlineExecutor, application, use_prices

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
TICKER = "DIRT"
LENGTHS = (70, 320)  # sessions: the replay behind an interval takes 0.1 s for long ones
LONG = 800  # enough to train on
TOLERANCE = 0.25  # by which a bound's distance from the last close may differ, as a share of the clean one's
MAX_COVERAGE_GAP = 3.0  # percentage points
BACKTEST_EVERY, ANALYSE_EVERY, TRAIN_EVERY = 200, 100, 400
LEVELS = ("0.8", "0.95")

Answer = Mapping[str, Any]


class RowsSource:
    """Cleans and serves its rows for ``TICKER``."""

    def __init__(self) -> None:
        self.rows: RawBars | None = None

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:  # noqa: ARG002
        if ticker != TICKER:  # an index
            raise TickerNotFound(f"no rows of {ticker}")
        assert self.rows is not None  # noqa: S101 - our own mistake
        series, defects = clean_raw(ticker, self.rows)
        return history_at(series, now, source="rows", defects=defects)


@dataclass
class Tally:
    """Outcomes of some series; ``bad`` has a line for each broken bound."""

    outcomes: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    n_covered: Counter[tuple[str, str]] = field(default_factory=Counter)
    n_forecast: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name in ("outcomes", "by_kind", "errors", "n_covered", "n_forecast"):
            getattr(self, name).update(getattr(other, name))
        self.bad.extend(other.bad)


def main() -> None:
    """Print the outcomes of the series, and the coverage of clean and dirty ones."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dirty_prices", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--series", type=int, default=20_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the first series (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="at once (default: %(default)s)")
    chosen = parser.parse_args()
    started, tally = time.monotonic(), Tally()
    seeds = range(chosen.seed, chosen.seed + chosen.series)
    with ProcessPoolExecutor(chosen.processes) as pool:
        for part in pool.map(run, [seeds[first : first + 250] for first in range(0, len(seeds), 250)]):
            tally.add(part)
    print(f"{len(seeds)} series, seeds {seeds[0]} to {seeds[-1]}, {time.monotonic() - started:.0f} s")
    sys.exit(report(tally))


def run(seeds: Sequence[int]) -> Tally:
    """Test each seed's series on an application in this process."""
    logging.disable(logging.WARNING)
    tally, source = Tally(), RowsSource()
    with tempfile.TemporaryDirectory() as folder:
        app = application(Settings(_env_file=None, data_dir=Path(folder), price_source="sample"), clock=lambda: NOW)
        use_prices(app, source)
        app.state.runtime.executor = app.state.runtime.backtest_executor = InlineExecutor(app)
        client = TestClient(app, raise_server_exceptions=False)
        for seed in seeds:
            one_series(seed, source, client, tally)
    return tally


def one_series(seed: int, source: RowsSource, client: TestClient, tally: Tally) -> None:
    rng = np.random.default_rng(seed)
    case = clean_case(rng, LONG if seed % TRAIN_EVERY == 0 else int(rng.integers(*LENGTHS)))
    kinds = [str(kind) for kind in rng.choice(sorted(DIRT), size=int(rng.choice([1, 1, 1, 2, 3])), replace=False)]
    dirty = soiled(case, kinds, rng)
    status, clean = _post(source, client, case, "/predict/live", {"symbol": TICKER})
    assert status == 200, (seed, clean)  # noqa: S101 - a clean series has a forecast
    status, answer = _post(source, client, dirty, "/predict/live", {"symbol": TICKER})
    outcome = judge(kinds, status, clean, answer)
    tally.outcomes[outcome] += 1
    tally.by_kind.update((kind, outcome) for kind in kinds if len(kinds) == 1)
    name = f"seed {seed}, {' + '.join(kinds)}"
    if outcome in ("5xx", "different without a warning"):
        tally.bad.append(f"{name}: {outcome}: {answer.get('detail') or _apart(clean, answer)}")
    if status == 200:
        _count_coverage(tally, "clean", clean, case)
        _count_coverage(tally, "dirty", answer, dirty)
    else:
        tally.errors[str(answer.get("code"))] += 1
    _other_routes(seed, name, dirty, source, client, tally)


def soiled(case: Case, kinds: Sequence[str], rng: Generator) -> Case:
    """The case with these kinds of dirt, one after the other; rows are shuffled last."""
    for kind in sorted(kinds, key="shuffled".__eq__):
        case = DIRT[kind](case, rng)
    return case


def report(tally: Tally) -> int:
    """Print the tally; 1 where a bound is broken."""
    total = sum(tally.outcomes.values())
    for outcome, count in tally.outcomes.most_common():
        print(f"  {count:7}  {outcome} ({count / total:.1%})")
    print("by kind of dirt, alone:")
    for kind in DIRT:
        parts = [f"{outcome} {n}" for (name, outcome), n in sorted(tally.by_kind.items()) if name == kind]
        print(f"  {kind:16} {', '.join(parts)}")
    print("refusals: " + ", ".join(f"{code} {n}" for code, n in tally.errors.most_common()))
    broken = bool(tally.bad)
    for level in LEVELS:
        clean, dirty = (100 * tally.n_covered[state, level] / tally.n_forecast[state] for state in ("clean", "dirty"))
        error = (dirty * (100 - dirty) / tally.n_forecast["dirty"]) ** 0.5
        print(
            f"{float(level):.0%} intervals contained the next close: clean {clean:.1f} %, dirty {dirty:.1f} % "
            f"(standard error {error:.1f}), gap {dirty - clean:+.1f}, bound {MAX_COVERAGE_GAP:g}"
        )
        broken = broken or abs(dirty - clean) > MAX_COVERAGE_GAP
    for line in tally.bad[:50]:
        print(line)
    print(f"{len(tally.bad)} series broke a bound")
    return int(broken)


def judge(kinds: Sequence[str], status: int, clean: Answer, answer: Answer) -> str:
    """The outcome of the answer to dirty prices, compared with the one to clean prices."""
    if status >= 500:
        return "5xx"
    if status >= 400:
        return "named refusal" if answer.get("code") else "5xx"
    if _apart(clean, answer) <= TOLERANCE and answer["last_data_date"] == clean["last_data_date"]:
        return "same within tolerance"
    warnings = " ".join(answer["warnings"])
    if any(re.search(NAMED_BY[kind], warnings) for kind in kinds if kind in NAMED_BY):
        return "different, with a warning that names the dirt"
    return "different without a warning"


def _apart(clean: Answer, answer: Answer) -> float:
    """The largest difference of a bound's log distance from the last close, as a share of the clean one's."""
    if answer.get("intervals") is None:
        return float("inf")
    ours, theirs = _distances(answer), _distances(clean)
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def _distances(answer: Answer) -> NDArray[np.float64]:
    bounds = [[interval["lower"], interval["upper"]] for interval in answer["intervals"]]
    distances: NDArray[np.float64] = np.log(np.array(bounds) / answer["last_known_price"])
    return distances


def _count_coverage(tally: Tally, state: str, answer: Answer, case: Case) -> None:
    tally.n_forecast[state] += 1
    close = case.close_of(answer["prediction_for_date"])
    for interval, level in zip(answer["intervals"], LEVELS, strict=True):
        tally.n_covered[state, level] += interval["lower"] <= close <= interval["upper"]


def _other_routes(seed: int, name: str, dirty: Case, source: RowsSource, client: TestClient, tally: Tally) -> None:
    half = str(dirty.rows.sessions[len(dirty.rows.sessions) // 2])
    training = {"ticker": TICKER, "model": "volatility_regression", "train_size": 0.7}
    routes = [
        (BACKTEST_EVERY, "/models/default/backtest", {"ticker": TICKER, "start": half, "horizon": 3, "stride": 5}),
        (TRAIN_EVERY, "/models/train", training),
        (BACKTEST_EVERY, "/models/fetch-data", {"ticker": TICKER, "days": 100}),
        (BACKTEST_EVERY, "/predict/forecast", {"symbol": TICKER, "days": 30}),
    ]
    for every, path, body in routes:
        if seed % every == 0:
            _check(*_post(source, client, dirty, path, body), f"{name}, POST {path}", tally)
    if seed % ANALYSE_EVERY == 0:
        source.rows = dirty.rows
        response = client.get(f"/analysis/{TICKER}")
        _check(response.status_code, response.json(), f"{name}, GET /analysis", tally)


def _check(status: int, answer: Answer, name: str, tally: Tally) -> None:
    tally.errors[f"{name.rsplit(' ', 1)[1]} {status}"] += 1
    if status >= 500 or (status >= 400 and not answer.get("code")):
        tally.bad.append(f"{name}: {status}: {answer.get('detail')}")


def _post(source: RowsSource, client: TestClient, case: Case, path: str, body: Mapping[str, Any]) -> tuple[int, Answer]:
    source.rows = case.rows
    response = client.post(path, json=body)
    return response.status_code, response.json()


if __name__ == "__main__":
    main()
