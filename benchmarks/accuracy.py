"""Accuracy of every model and baseline on real prices: the last 15 % of each series, every session an origin.

python -m benchmarks.accuracy --data DIR                 every TICKER.csv in DIR
python -m benchmarks.accuracy --data DIR --models return_lstm --seeds 0 1 2
python -m benchmarks.accuracy --data DIR --share 0.85    on earlier sessions: for choices that must not see the last

Models are fitted, calibrated and then frozen on the first 85 %; a return_lstm
once from the bundled model's weights, as a training request would where the
bundled model has seen none of the test, and once from scratch. Baselines are
shown as they are, and once more calibrated like a model ("+ conformal").
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bootstrap import bundled_model
from config import Settings
from models.base import CLOSE, Forecaster, closes_only
from models.conformal import Calibration
from models.fitting import WEIGHTS, FitBlocks, FitSettings
from models.serving import calibrated, served
from models.specs import BASELINES, MODEL_SPECS
from schemas.train import CalibrationKind, TrainRequest
from services.evaluation.accuracy import mean
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.scorer import score, stacked
from services.evaluation.splits import split_train
from services.prices.csv import CsvSource
from services.prices.series import PriceSeries, to_date
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore
from services.training.train import fit_settings

STEPS = (1, 5, 10, 20)
LEVELS = (0.8, 0.95)
TRAIN_SIZE = 0.85
REFERENCE = "rolling_empirical"


@dataclass(frozen=True, eq=False)
class Result:
    """Forecasts of one ticker's test part, and the seconds the fit took."""

    forecasts: BacktestForecasts
    seconds: float


def main() -> None:
    arguments = _arguments()
    source = CsvSource(arguments.data)
    tickers = sorted(path.stem for path in arguments.data.glob("*.csv"))
    histories = {ticker: source.history(ticker, datetime.now(UTC)).series for ticker in tickers}
    series = {ticker: _first_share(one, arguments.share) for ticker, one in histories.items()}
    rows: dict[str, dict[str, Result]] = {}
    for ticker, one in series.items():
        for name, result in _results(one, arguments.models, arguments.seeds):
            rows.setdefault(name, {})[ticker] = result
    _print(rows, tickers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of TICKER.csv files")
    parser.add_argument(
        "--models", nargs="*", default=[n for n in MODEL_SPECS if n not in BASELINES], choices=MODEL_SPECS
    )
    parser.add_argument("--share", type=float, default=1.0, help="use this first share of each series only")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    return parser.parse_args()


def _results(series: PriceSeries, models: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, Result]]:
    for name in BASELINES:
        yield name, _baseline(name, series)
    for name in BASELINES:
        yield f"{name} + conformal", _model(name, series, 0, "static")
    registry = _bundled_registry()
    for seed in seeds:
        suffix = "" if len(seeds) == 1 else f", seed {seed}"
        for name in models:
            if name == "return_lstm" and registry.bundled is not None:
                base = _Base(registry.file(registry.bundled, WEIGHTS), registry.load(registry.bundled).calibration)
                yield f"{name}, from bundled{suffix}", _model(name, series, seed, "adaptive", base)
            yield name + suffix, _model(name, series, seed, "adaptive")
            yield f"{name}, static{suffix}", _model(name, series, seed, "static")
    yield from _bundled(series, registry)


def _first_share(series: PriceSeries, share: float) -> PriceSeries:
    return series.between(None, to_date(series.sessions[round(len(series) * share) - 1]))


def _bundled_registry() -> ModelRegistry:
    settings = Settings(_env_file=None)
    return ModelRegistry(LocalArtifactStore(settings.data_dir), bundled_model(settings))


def _config(series: PriceSeries) -> BacktestConfig:
    """The same origins for every forecaster: the last 15 % of the sessions."""
    first = round(len(series) * TRAIN_SIZE) - 1
    return BacktestConfig(np.arange(first, len(series) - 1), max(STEPS), LEVELS)


def _settings(name: str, seed: int) -> FitSettings:
    asked = TrainRequest.model_validate({"ticker": "X", "model": name, "seed": seed})
    return fit_settings(asked, MODEL_SPECS[name].lookback or asked.sequence_length)


class _Base(NamedTuple):
    """What a model is continued from."""

    weights: bytes
    calibration: Calibration


def _model(name: str, series: PriceSeries, seed: int, kind: CalibrationKind, base: _Base | None = None) -> Result:
    started = time.perf_counter()
    start, of_base = base or (None, None)
    spec, settings = MODEL_SPECS[name], replace(_settings(name, seed), start=start)
    known = series.bars[: round(len(series) * TRAIN_SIZE)]
    split = split_train(series.ticker, len(known), settings.lookback)
    fitted = spec.fit([FitBlocks(known, split.fit, split.early_stopping)], settings, lambda _: None)
    own = calibrated(spec, fitted, [(known, split.calibration)], kind)
    forecaster = served(own.static.inner, own.calibration.informed_by(of_base), kind)
    seconds = time.perf_counter() - started
    return Result(walk_forward(lambda _: forecaster, series.bars, _config(series)), seconds)


def _baseline(name: str, series: PriceSeries) -> Result:
    started = time.perf_counter()
    spec, settings = MODEL_SPECS[name], _settings(name, seed=0)
    config = _config(series)
    first = int(config.origins[0])
    known = FitBlocks(series.bars[: first + 1], range(settings.lookback - 1, first), range(first, first))
    fitted = spec.fit([known], settings, lambda _: None)
    forecaster = spec.load(fitted.files, fitted.quantile_levels)
    seconds = time.perf_counter() - started
    return Result(walk_forward(lambda _: forecaster, series.bars, config), seconds)


def _bundled(series: PriceSeries, registry: ModelRegistry) -> Iterator[tuple[str, Result]]:
    if registry.bundled is None:
        return
    forecaster: Forecaster = registry.load(registry.bundled)
    yield "bundled", Result(walk_forward(lambda _: forecaster, series.bars, _config(series)), 0.0)
    closes = closes_only(series.bars[:, CLOSE])
    yield "bundled, closes only", Result(walk_forward(lambda _: forecaster, closes, _config(series)), 0.0)


def _print(rows: dict[str, dict[str, Result]], tickers: Sequence[str]) -> None:
    width = max(map(len, rows))
    print("CRPS skill of the log return against the rolling 250-day empirical distribution, one step, %")
    print(f"{'':{width}} " + " ".join(f"{ticker:>9}" for ticker in tickers) + "      mean | 5, 10, 20 steps, mean")
    for name, results in rows.items():
        skills = {h: [_crps_skill(results[t], rows[REFERENCE][t], h) for t in tickers] for h in STEPS}
        further = " ".join(f"{np.mean(skills[h]):7.2f}" for h in STEPS[1:])
        print(f"{name:{width}} " + " ".join(f"{s:9.2f}" for s in skills[1]) + f" {np.mean(skills[1]):9.2f} | {further}")
    print("\nMAPE as a ratio to persistence, one step; seconds to fit and calibrate, slowest")
    for name, results in rows.items():
        ratios = " ".join(f"{_mape_ratio(results[t]):9.4f}" for t in tickers)
        print(f"{name:{width}} {ratios} {max(r.seconds for r in results.values()):9.1f}")
    print(f"\nCoverage of the 80 % and 95 % intervals, all tickers together, %, at {', '.join(map(str, STEPS))} steps")
    for name, results in rows.items():
        by_step = (_coverages(list(results.values()), h) for h in STEPS)
        print(f"{name:{width}} " + "   ".join(" ".join(f"{one:5.1f}" for one in found) for found in by_step))
    print("\nDistance of a ticker's coverage from 80 %, mean of the tickers, points, at these steps")
    for name, results in rows.items():
        print(f"{name:{width}} " + " ".join(f"{_distance(list(results.values()), h):6.1f}" for h in STEPS))


def _crps_skill(result: Result, reference: Result, step: int) -> float:
    own, theirs = (mean(one.forecasts.at(step).crps_log) for one in (result, reference))
    return 100 * (1 - own / theirs)


def _mape_ratio(result: Result) -> float:
    report = score(result.forecasts.at(1), LEVELS, 1)
    return report.model.mape / report.persistence.mape


def _coverages(results: Sequence[Result], step: int) -> list[float]:
    """Of each level, in %, all tickers together."""
    report = score(stacked([one.forecasts.at(step) for one in results]), LEVELS, step)
    return [100 * one.empirical_coverage for one in report.coverage]


def _distance(results: Sequence[Result], step: int) -> float:
    return float(np.mean([abs(_coverages([one], step)[0] - 100 * LEVELS[0]) for one in results]))


if __name__ == "__main__":
    main()
