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
from models.base import CLOSE, IMPLIED_VOLATILITY, MARKET_OPEN, N_INPUTS, QUANTILE_GRID, Bars
from models.baselines.gradient_boosting import (
    N_FEATURES,
    GradientBoosting,
    GradientBoostingParameters,
    StoredTrees,
    Trees,
    _Given,
    stored_trees,
)
from models.baselines.volatility_regression import student_t_quantiles
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


def test_the_trees_see_volatility_and_returns_of_the_share_and_the_market_and_implied_volatility() -> None:
    bars = _with_market(random_walk(80), np.linspace(10, 30, 80))
    bars[79, IMPLIED_VOLATILITY], last = 25.0, 79

    def seen(one: Bars) -> list[float]:
        log_range, log_close = np.log(np.log(one[:, 1] / one[:, 2])), np.log(one[:, CLOSE])
        day, week, month, quarter = (log_range[last + 1 - width : last + 1].mean() for width in (1, 5, 22, 60))
        returns = [(log_close[last] - log_close[last - width]) / np.exp(quarter) for width in (1, 5, 22)]
        return [day - quarter, week - quarter, month - quarter, quarter, *returns]

    given = _Given.at(bars, np.array([last]))

    np.testing.assert_allclose(given.features[0], [*seen(bars), *seen(bars[:, MARKET_OPEN:]), np.log(25.0)], rtol=1e-9)
    assert given.usual[0] == given.features[0, 3]
    assert given.newest[0] == pytest.approx(given.features[0, 0] + given.usual[0])
    bars[79, IMPLIED_VOLATILITY] = 0.0
    assert np.isnan(_Given.at(bars, np.array([last])).features[0, -1])


def test_between_fitted_steps_the_log_scale_is_linear_in_the_log_of_the_step() -> None:
    bars, origins = random_walk(80), np.array([70, 79])
    stored = tuple(_leaf(value) for value in (0.1, 0.4, -0.2))
    parameters = GradientBoostingParameters(
        horizon=30, steps=(1, 5, 20), trees=stored, quantiles=((-1.0, 0.0, 1.0),) * 30
    )
    forecaster = GradientBoosting(parameters, tuple(map(Trees.of, stored)), levels=(0.1, 0.5, 0.9))

    upper = np.log(forecaster.predict_quantiles(bars, origins).prices[..., 2] / bars[origins, CLOSE, None])

    usual = _Given.at(bars, origins).usual[:, None]
    half = 0.4 - 0.6 * np.log(2) / np.log(4)  # of 10, half way from 5 to 20
    steps = np.array([1, 2, 5, 10, 20, 30])
    expected = [0.1, 0.1 + 0.3 * np.log(2) / np.log(5), 0.4, half, -0.2, -0.2]
    np.testing.assert_allclose(np.log(upper[:, steps - 1]), usual + expected, rtol=1e-9)


def test_a_scale_far_outside_the_fitted_data_is_cut_off() -> None:
    bars = random_walk(80)
    parameters = GradientBoostingParameters(horizon=1, steps=(1,), trees=(_leaf(30.0),), quantiles=((-1.0, 0.0, 1.0),))
    forecaster = GradientBoosting(parameters, (Trees.of(_leaf(30.0)),), levels=(0.1, 0.5, 0.9))

    upper = forecaster.predict_quantiles(bars, np.array([79])).prices[0, 0, 2]

    assert np.log(upper / bars[79, CLOSE]) == pytest.approx(np.e)


@pytest.mark.parametrize(("most", "every"), [(1000, 1), (300, 2), (299, 3)])
def test_quantiles_are_those_of_standardized_returns(most: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.baselines.gradient_boosting.MAX_STANDARDIZED", most)
    bars = random_walk(600)

    parameters = json.loads(_files(bars, horizon=3)[PARAMETERS])

    origins = np.arange(60, 600 - 3)[::every]
    unit = GradientBoosting(  # whose quantiles are the scale itself
        GradientBoostingParameters.model_validate({**parameters, "quantiles": [[1.0]] * 3}),
        tuple(Trees.of(StoredTrees.model_validate(one)) for one in parameters["trees"]),
        levels=(0.5,),
    )
    scale = np.log(unit.predict_quantiles(bars, origins).prices[:, 2, 0] / bars[origins, CLOSE])
    returns = np.log(bars[origins + 3, CLOSE] / bars[origins, CLOSE])
    np.testing.assert_allclose(parameters["quantiles"][2], student_t_quantiles(returns / scale), atol=1e-6)


def test_a_fit_states_the_size_of_its_trees() -> None:
    settings = FitSettings(lookback=61, horizon=5, max_epochs=1, patience=1, max_seconds=60, seed=0)
    fitted = SPEC.fit([FitBlocks(random_walk(700), range(60, 699), range(699, 699))], settings, lambda _: None)

    assert fitted.hyperparameters == {"horizon": 5, "trees": 40, "leaves": 4, "learning_rate": 0.1}
    assert json.loads(fitted.files[PARAMETERS])["steps"] == [1, 5]
    for trees in json.loads(fitted.files[PARAMETERS])["trees"]:
        assert len(trees["roots"]) == 40
        assert len(trees["feature"]) == 40 * (2 * 4 - 1)  # four leaves and the three splits between them


def _leaf(value: float) -> StoredTrees:
    return _trees(baseline=value / 2, value=(value / 2,))


def _trees(**columns: Any) -> StoredTrees:
    """One tree, a leaf unless the columns say otherwise."""
    leaf = {"roots": (0,), "feature": (-1,), "threshold": (0,), "missing_left": (True,), "left": (0,), "right": (0,)}
    return StoredTrees.model_validate({"baseline": 0.0, "value": (0.0,), **leaf, **columns})


SPLIT: dict[str, Any] = {
    "feature": (0, -1, -1),
    "threshold": (0.0, 0.0, 0.0),
    "missing_left": (True, True, True),
    "left": (1, 1, 2),
    "right": (2, 1, 2),
    "value": (0.0, -1.0, 1.0),
}


def test_values_up_to_the_threshold_go_left() -> None:
    features = np.zeros((4, N_FEATURES))
    features[:, 0] = [-1.0, 0.0, 1e-9, np.nan]

    assert Trees.of(_trees(**SPLIT, baseline=10.0)).predict(features).tolist() == [9.0, 9.0, 11.0, 9.0]


@pytest.mark.parametrize("column", ["threshold", "missing_left", "left", "right", "value"])
def test_columns_of_different_length_are_no_trees(column: str) -> None:
    for length in (2, 4):
        with pytest.raises(ValueError, match="differ in length"):
            _trees(**SPLIT | {column: (SPLIT[column] * 2)[:length]})


@pytest.mark.parametrize("root", [-1, 3, 4])
def test_a_root_that_is_no_node_is_no_tree(root: int) -> None:
    assert _trees(**SPLIT, roots=(0, 2)).roots == (0, 2)

    with pytest.raises(ValueError, match="a root is not among them"):
        _trees(**SPLIT, roots=(0, root))


@pytest.mark.parametrize(
    "column",
    [
        {"feature": (-1, -1, -1)},
        {"feature": (N_FEATURES, -1, -1)},
        {"feature": (N_FEATURES + 1, -1, -1)},
        {"feature": (0, 0, -1)},
        {"left": (0, 1, 2)},
        {"left": (3, 1, 2)},
        {"left": (4, 1, 2)},
        {"right": (0, 1, 2)},
        {"right": (3, 1, 2)},
        {"right": (4, 1, 2)},
    ],
)
def test_a_node_that_is_neither_a_leaf_nor_leads_on_is_no_tree(column: dict[str, Any]) -> None:
    assert _trees(**SPLIT | {"feature": (N_FEATURES - 1, -1, -1)}).feature[0] == N_FEATURES - 1

    with pytest.raises(ValueError, match="neither a leaf nor a split"):
        _trees(**SPLIT | column)


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


def test_steps_that_do_not_ascend_are_corrupt() -> None:
    parameters = json.loads(_files(random_walk(600), horizon=5)[PARAMETERS])
    parameters["steps"] = [5, 1]

    with pytest.raises(ArtifactCorrupt, match="which ascend"):
        SPEC.load({PARAMETERS: json.dumps(parameters).encode()}, QUANTILE_GRID)


def test_trees_of_no_step_are_corrupt() -> None:
    content = {"horizon": 1, "steps": [], "trees": [], "quantiles": [[0.0] * len(QUANTILE_GRID)]}

    with pytest.raises(ArtifactCorrupt):
        SPEC.load({PARAMETERS: json.dumps(content).encode()}, QUANTILE_GRID)


@pytest.mark.parametrize("n_sessions", [63, 100])
def test_too_few_outcomes_are_refused(n_sessions: int) -> None:
    with pytest.raises(NotFittable, match="outcomes of each step"):
        _files(random_walk(n_sessions))
