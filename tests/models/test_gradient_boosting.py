"""Stored trees predict what scikit-learn does, and lead to a leaf from every root."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from errors import ArtifactCorrupt, NotFittable
from models.base import IMPLIED_VOLATILITY, MARKET_OPEN, N_INPUTS, QUANTILE_GRID, Bars
from models.baselines.gradient_boosting import N_FEATURES, Trees, stored_trees
from models.fitting import PARAMETERS, FitBlocks, FitSettings
from models.specs import BASELINES
from tests.fakes import random_walk

ROOT = Path(__file__).parents[2]
SPEC = BASELINES["gradient_boosting"]


def _features(n: int, seed: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, N_FEATURES))
    features[rng.random(features.shape) < 0.2] = np.nan
    return features


def _files(bars: Bars, horizon: int = 30) -> dict[str, bytes]:
    settings = FitSettings(lookback=61, horizon=horizon, max_epochs=1, patience=1, max_seconds=60, seed=0)
    n = len(bars)
    return dict(SPEC.fit([FitBlocks(bars, range(60, n - 1), range(n - 1, n - 1))], settings, lambda _: None).files)


def _with_market(bars: Bars, implied: NDArray[np.float64] | float) -> Bars:
    index = random_walk(len(bars), seed=9)
    wide = np.full((len(bars), N_INPUTS), np.nan)
    wide[:, :MARKET_OPEN] = bars
    wide[:, MARKET_OPEN:IMPLIED_VOLATILITY] = index[:, :4]
    wide[:, IMPLIED_VOLATILITY] = implied
    return wide


@pytest.mark.parametrize("leaves", [2, 4, 31])
def test_stored_trees_predict_what_scikit_learn_does(leaves: int) -> None:
    known, unseen = _features(2000, seed=1), 2 * _features(500, seed=2)
    target = np.nansum(known[:, :3], axis=1) + np.isnan(known[:, 4]) * np.nan_to_num(known[:, 5]) ** 2
    with threadpool_limits(1):
        model = HistGradientBoostingRegressor(max_iter=50, max_leaf_nodes=leaves, early_stopping=False, random_state=0)
        model.fit(known, target)
        expected = model.predict(unseen)

    predicted = Trees.of(stored_trees(model)).predict(unseen)

    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-9)


def test_a_split_into_known_and_unknown_is_stored() -> None:
    known = np.zeros((400, N_FEATURES))
    known[::2, 0] = np.nan
    target = np.isnan(known[:, 0]).astype(np.float64)
    with threadpool_limits(1):
        model = HistGradientBoostingRegressor(max_iter=5, early_stopping=False).fit(known, target)
        expected = model.predict(known)

    stored = stored_trees(model)

    assert np.ptp(expected) > 0
    np.testing.assert_allclose(Trees.of(stored).predict(known), expected, atol=1e-9)
    assert np.isfinite(stored.threshold).all()


def test_serving_does_not_import_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / PARAMETERS).write_bytes(_files(random_walk(600))[PARAMETERS])
    probe = (
        "import sys, pathlib; from models.specs import MODEL_SPECS; from models.base import QUANTILE_GRID; "
        f"files = {{{PARAMETERS!r}: pathlib.Path({str(tmp_path / PARAMETERS)!r}).read_bytes()}}; "
        "import numpy as np; bars = np.exp(np.random.default_rng(0).normal(0, .01, (100, 1)).cumsum(0)).repeat(5, 1); "
        "MODEL_SPECS['gradient_boosting'].load(files, QUANTILE_GRID).predict_quantiles(bars, np.array([99])); "
        "assert not {'sklearn', 'scipy', 'joblib', 'threadpoolctl'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=True)


def test_the_market_is_read_where_it_is_known() -> None:
    bars = random_walk(1500)
    implied = 20 + 10 * np.sin(np.arange(1500) / 40)  # volatility follows it one session later
    log_close = np.cumsum(np.random.default_rng(3).normal(size=1500) * implied / 1e3)
    bars = np.exp(log_close)[:, None] * bars / bars[:, 3:4]
    given = _with_market(bars, implied)
    forecaster = SPEC.load(_files(given), QUANTILE_GRID)

    def spread(one: Bars) -> float:
        low, high = forecaster.predict_quantiles(one, np.array([1499])).at(np.array([0.1, 0.9]))[0, 0]
        return float(np.log(high / low))

    calm, restless, unknown = given.copy(), given.copy(), given.copy()
    calm[:, IMPLIED_VOLATILITY], restless[:, IMPLIED_VOLATILITY] = 10.0, 30.0
    unknown[:, MARKET_OPEN:] = np.nan
    assert spread(restless) > spread(calm)
    assert np.isfinite(spread(unknown))
    assert spread(unknown) == spread(given[:, :MARKET_OPEN])


@pytest.mark.parametrize("horizon", [1, 3, 30])
def test_every_horizon_has_its_steps(horizon: int) -> None:
    bars = random_walk(600)

    forecaster = SPEC.load(_files(bars, horizon), QUANTILE_GRID)

    assert forecaster.predict_quantiles(bars, np.array([599])).prices.shape == (1, horizon, len(QUANTILE_GRID))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda trees: trees["left"].pop(),
        lambda trees: trees["roots"].append(10_000),
        lambda trees: trees["left"].__setitem__(0, 0),  # a node that leads to itself would never end
        lambda trees: trees["feature"].__setitem__(0, N_FEATURES),
    ],
    ids=["a column too short", "no such root", "a circle", "no such feature"],
)
def test_trees_without_an_end_are_corrupt(spoil: Any) -> None:
    bars = random_walk(2000)
    parameters = json.loads(_files(bars, horizon=1)[PARAMETERS])
    assert parameters["trees"][0]["feature"][0] >= 0
    spoil(parameters["trees"][0])

    with pytest.raises(ArtifactCorrupt):
        SPEC.load({PARAMETERS: json.dumps(parameters).encode()}, QUANTILE_GRID)


@pytest.mark.parametrize("key", ["trees", "steps", "quantiles"])
def test_a_step_without_trees_or_quantiles_is_corrupt(key: str) -> None:
    parameters = json.loads(_files(random_walk(600))[PARAMETERS])
    parameters[key].pop()

    with pytest.raises(ArtifactCorrupt):
        SPEC.load({PARAMETERS: json.dumps(parameters).encode()}, QUANTILE_GRID)


@pytest.mark.parametrize("n_sessions", [63, 100])
def test_too_few_outcomes_are_refused(n_sessions: int) -> None:
    with pytest.raises(NotFittable, match="outcomes of each step"):
        _files(random_walk(n_sessions))
