"""The table of the README: the bundled model on sample prices of its test part, with uncertainty.

.venv/bin/python -m benchmarks.readme

A p-value is that of a Diebold–Mariano test. The standard error of a coverage allows for forecasts that overlap
(Newey–West with as many lags as the step has sessions before it).
"""

from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from bootstrap import bundled_model
from config import Settings
from models.fitting import FitBlocks, FitSettings
from models.specs import MODEL_SPECS
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, walk_forward
from services.evaluation.significance import diebold_mariano
from services.prices.sample import SampleSource
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore

TICKER = "^GSPC"
FIRST_ORIGIN = date(2017, 1, 6)  # of the bundled model's test part
STEPS = (1, 20)
LEVEL = 0.8


def main() -> None:
    """Print the three rows."""
    print("\n".join(rows()))


def rows() -> list[str]:
    """The rows of the README's table."""
    settings = Settings(_env_file=None)
    store = LocalArtifactStore(settings.data_dir / "unused")  # without models: ``default`` is the bundled one
    registry = ModelRegistry(store, bundled_model(settings))
    bundled = registry.load(registry.card("default"))
    bars = (series := SampleSource().history(TICKER, datetime.now(UTC)).series).bars
    first = int(np.searchsorted(series.sessions, np.datetime64(FIRST_ORIGIN)))
    config = BacktestConfig(np.arange(first, len(bars) - 1), max(STEPS), (LEVEL,), (0.5,), stride=1)
    spec = MODEL_SPECS["rolling_empirical"]
    lookback = spec.lookback or 0
    settings_of_fit = FitSettings(lookback, max(STEPS), max_epochs=1, patience=1, max_seconds=60, seed=0)
    blocks = FitBlocks(bars[: first + 1], range(lookback - 1, first), range(first, first))
    fitted = spec.fit([blocks], settings_of_fit, lambda _: None)
    empirical = spec.load(fitted.files, fitted.quantile_levels)
    model = walk_forward(lambda _: bundled, bars, config)
    reference = walk_forward(lambda _: empirical, bars, config)
    return [
        _row("Average error (MAPE), model against no change", [_error(model, step) for step in STEPS]),
        _row(
            "Error of the whole distribution (CRPS), against the returns of the last 250 sessions",
            [_distribution(model, reference, step) for step in STEPS],
        ),
        _row("Closes inside the 80% range", [_coverage(model, step) for step in STEPS]),
    ]


def _row(title: str, cells: list[str]) -> str:
    return f"| {title} | {' | '.join(cells)} |"


def _error(model: BacktestForecasts, step: int) -> str:
    actual, median = model.actual[:, step - 1], model.median[:, step - 1]
    own, naive = np.abs(actual - median) / actual, np.abs(actual - model.last) / actual
    n, p = int(np.isfinite(own).sum()), diebold_mariano(own, naive, step)
    return f"{np.nanmean(own):.3%} against {np.nanmean(naive):.3%} (p = {p:.2f}, {n} forecasts)"


def _distribution(model: BacktestForecasts, reference: BacktestForecasts, step: int) -> str:
    own, other = model.crps_log[:, step - 1], reference.crps_log[:, step - 1]
    skill, p = 1 - np.nanmean(own) / np.nanmean(other), diebold_mariano(own, other, step)
    return f"{abs(skill):.1%} {'lower' if skill > 0 else 'higher'} ({'p < 0.001' if p < 0.001 else f'p = {p:.2f}'})"


def _coverage(model: BacktestForecasts, step: int) -> str:
    actual = model.actual[:, step - 1]
    inside = (actual >= model.lower[:, step - 1, 0]) & (actual <= model.upper[:, step - 1, 0])
    hits: NDArray[np.float64] = inside[~np.isnan(actual)].astype(np.float64)
    spread = hits - hits.mean()
    covariances = [spread[lag:] @ spread[: hits.size - lag] / hits.size for lag in range(step)]
    error = np.sqrt((covariances[0] + 2 * sum(covariances[1:])) / hits.size)
    return f"{hits.mean():.1%} (standard error {100 * error:.1f} points)"


if __name__ == "__main__":
    main()
