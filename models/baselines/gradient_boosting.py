"""Gradient boosted trees that forecast the log range volatility of the next sessions, as many practitioners do first.

The trees are fitted by scikit-learn's ``HistGradientBoostingRegressor`` and stored as arrays, so that a forecast needs
numpy only and nothing is unpickled.

Source: Friedman (2001), Annals of Statistics; Ke et al. (2017), NeurIPS, for the histograms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from errors import ArtifactCorrupt, NotFittable
from models.base import (
    CLOSE,
    IMPLIED_VOLATILITY,
    MARKET_CLOSE,
    MARKET_OPEN,
    N_INPUTS,
    QUANTILE_GRID,
    Bars,
    Origins,
    QuantileForecast,
    with_columns,
)
from models.baselines.closed_form import Parameters, fitted, price_forecast, read_parameters, sessions_to_fit
from models.baselines.volatility_regression import (
    LOOKBACK,
    MAX_LOG_SCALE,
    MEAN_WIDTHS,
    MIN_OUTCOMES,
    log_ranges,
    outcomes,
    student_t_quantiles,
)
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch
from models.windows import lookback_windows

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

RETURN_WIDTHS = (1, 5, 22)  # sessions
FITTED_STEPS = (1, 5, 20)  # each has trees of its own; between them the log scale is linear in the log of the step
N_FEATURES = 2 * (len(MEAN_WIDTHS) + len(RETURN_WIDTHS)) + 1
MAX_STANDARDIZED = 100_000  # outcomes of each step that a Student-t is fitted to: more change no quantile

# chosen on shares that no published figure is measured on; more leaves or trees were worse
N_TREES = 40
MAX_LEAVES = 4
LEARNING_RATE = 0.1
MIN_LEAF = 100  # origins: their windows overlap, so they say as much as far fewer
MAX_DEPTH, MAX_NODES = 32, 20_000  # of stored trees; those of ours have at most 3 levels and 280 nodes


class StoredTrees(BaseModel):
    """Regression trees, all in one list of nodes.

    Attributes:
        baseline: what the trees' values are added to.
        roots: the first node of each tree.
        feature: what a node splits on; −1 for a leaf.
        threshold: values up to it go left.
        missing_left: whether an unknown value goes left.
        left, right: the next nodes, further down the list; a leaf names itself.
        value: of a leaf.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    baseline: float
    roots: tuple[int, ...]
    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    missing_left: tuple[bool, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    @model_validator(mode="after")
    def _leads_to_leaves(self) -> Self:
        n = len(self.feature)
        if max(n, len(self.roots)) > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} nodes")
        columns = (self.threshold, self.missing_left, self.left, self.right, self.value)
        if any(len(column) != n for column in columns) or not all(0 <= root < n for root in self.roots):
            raise ValueError("the columns of the nodes differ in length, or a root is not among them")
        depth = [0] * n
        for node, (feature, left, right) in enumerate(zip(self.feature, self.left, self.right, strict=True)):
            is_leaf = (feature, left, right) == (-1, node, node)
            if not is_leaf and not (0 <= feature < N_FEATURES and node < left < n and node < right < n):
                raise ValueError(f"node {node} is neither a leaf nor a split whose branches come after it")
            if not is_leaf:
                depth[left], depth[right] = max(depth[left], depth[node] + 1), max(depth[right], depth[node] + 1)
        if max(depth, default=0) > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels")
        return self


class GradientBoostingParameters(Parameters):
    """The trees of each fitted step, and a row of quantiles per step.

    Attributes:
        steps: ascending; those of FITTED_STEPS within the horizon.
        trees: of each of ``steps``.
        quantiles: of the log return in units of the forecast range, shape (horizon, n_levels).
    """

    steps: tuple[PositiveInt, ...] = Field(min_length=1)
    trees: tuple[StoredTrees, ...]
    quantiles: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, eq=False)
class Trees:
    """The columns of ``StoredTrees`` as arrays."""

    baseline: float
    roots: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    value: NDArray[np.float64]

    @classmethod
    def of(cls, stored: StoredTrees) -> "Trees":
        return cls(
            stored.baseline,
            np.array(stored.roots, dtype=np.intp),
            np.array(stored.feature, dtype=np.intp),
            np.array(stored.threshold),
            np.array(stored.missing_left, dtype=np.bool_),
            np.array(stored.left, dtype=np.intp),
            np.array(stored.right, dtype=np.intp),
            np.array(stored.value),
        )

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """What scikit-learn's ``predict`` gives for the same rows, (n, N_FEATURES) to (n,)."""
        rows = np.arange(len(features))[:, None]
        node = np.broadcast_to(self.roots, (len(features), self.roots.size))
        while (self.feature[node] >= 0).any():  # one level of all trees at a time
            value = features[rows, self.feature[node]]
            goes_left = np.where(np.isnan(value), self.missing_left[node], value <= self.threshold[node])
            node = np.where(goes_left, self.left[node], self.right[node])
        predicted: NDArray[np.float64] = self.baseline + self.value[node].sum(axis=1)
        return predicted


@dataclass(frozen=True, eq=False)
class GradientBoosting:
    """Student-t quantiles of the standardized return times the range that the trees forecast."""

    parameters: GradientBoostingParameters
    trees: tuple[Trees, ...]
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = LOOKBACK

    @property
    def horizon(self) -> int:
        return self.parameters.horizon

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        given = _Given.at(bars, origins)
        scale = _scale(given, self.trees, self.parameters.steps, self.horizon)
        log_returns = scale[..., None] * np.array(self.parameters.quantiles)
        return price_forecast(bars, origins, log_returns, self.levels)


def fit_gradient_boosting(series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    """Trees for some steps, then a Student-t for the standardized returns of each; several series are stacked.

    Raises:
        NotFittable: most closes never moved, or too few sessions traded.
    """
    import sklearn.ensemble  # noqa: F401 - only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # fits this small are slower with a second thread, far slower on a busy machine
        return fitted(
            _fitted_parameters(series, settings), trees=N_TREES, leaves=MAX_LEAVES, learning_rate=LEARNING_RATE
        )


def load_gradient_boosting(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> GradientBoosting:
    parameters = read_parameters(GradientBoostingParameters, files)
    shape = (len(parameters.quantiles), *{len(step) for step in parameters.quantiles})
    if shape != (parameters.horizon, len(quantile_levels)):
        raise ArtifactCorrupt(f"expected quantiles of {parameters.horizon} steps at {len(quantile_levels)} levels")
    steps = parameters.steps
    if len(parameters.trees) != len(steps) or sorted(set(steps)) != list(steps) or steps[-1] > parameters.horizon:
        raise ArtifactCorrupt("expected trees for each of the fitted steps, which ascend within the horizon")
    return GradientBoosting(parameters, tuple(map(Trees.of, parameters.trees)), tuple(quantile_levels))


@dataclass(frozen=True, eq=False)
class _Given:
    """What the trees see at each origin.

    Attributes:
        features: scale-free but for the usual log range itself, NaN where unknown, shape (n_origins, N_FEATURES).
        usual: mean log range of the longest of MEAN_WIDTHS, shape (n_origins,); the trees forecast the difference to
            it, because a tree cannot forecast a level that it has never seen.
        newest: log range of the session of the origin, shape (n_origins,).
    """

    features: NDArray[np.float64]
    usual: NDArray[np.float64]
    newest: NDArray[np.float64]

    @classmethod
    def at(cls, bars: Bars, origins: Origins) -> "_Given":
        windows = lookback_windows(with_columns(bars, N_INPUTS), origins, LOOKBACK)
        ranges = log_ranges(windows)
        market = windows[..., MARKET_OPEN : MARKET_CLOSE + 1]
        own = _volatility_and_returns(ranges, windows[..., CLOSE])
        of_market = _volatility_and_returns(log_ranges(market), market[..., CLOSE])
        implied = windows[:, -1, IMPLIED_VOLATILITY]
        implied = np.log(np.where(implied > 0, implied, np.nan))  # false for NaN
        return cls(np.column_stack([own, of_market, implied]), own[:, len(MEAN_WIDTHS) - 1], ranges[:, -1])

    def thinned(self, every: int) -> "_Given":
        return _Given(self.features[::every], self.usual[::every], self.newest[::every])


def _volatility_and_returns(ranges: NDArray[np.float64], closes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean log ranges, all but the longest as differences to it, and returns in units of the usual range.

    Args:
        ranges: log ranges, shape (n_origins, LOOKBACK − 1).
        closes: shape (n_origins, LOOKBACK).

    Returns:
        Shape (n_origins, len(MEAN_WIDTHS) + len(RETURN_WIDTHS)).
    """
    *shorter, usual = (ranges[:, -width:].mean(axis=1) for width in MEAN_WIDTHS)
    newest = np.log(closes[:, -1])
    returns = [(newest - np.log(closes[:, -1 - width])) / np.exp(usual) for width in RETURN_WIDTHS]
    return np.column_stack([*(mean - usual for mean in shorter), usual, *returns])


def _fitted_parameters(series: Sequence[FitBlocks], settings: FitSettings) -> GradientBoostingParameters:
    steps = tuple(step for step in FITTED_STEPS if step <= settings.horizon)
    known = [sessions_to_fit(one) for one in series]
    every = -(-sum(map(len, known)) // MAX_STANDARDIZED)
    features, targets, given, returns = [], [], [], []
    for bars in known:
        origins = np.arange(LOOKBACK - 1, len(bars))
        part = _Given.at(bars, origins)
        log_range, log_return = outcomes(bars, origins, part.newest, settings.horizon)
        features.append(part.features)
        targets.append(log_range[:, np.array(steps) - 1] - part.usual[:, None])  # (n_origins, n_steps)
        given.append(part.thinned(every))
        returns.append(log_return[::every].copy())  # not a view, which would keep the rest
    together = np.concatenate(features)
    stored = tuple(_fitted_trees(together, target, settings.seed) for target in np.concatenate(targets).T)

    trees = tuple(map(Trees.of, stored))
    scales = [_scale(part, trees, steps, settings.horizon) for part in given]
    standardized = np.concatenate(returns) / np.concatenate(scales)
    return GradientBoostingParameters(
        horizon=settings.horizon,
        steps=steps,
        trees=stored,
        quantiles=tuple(student_t_quantiles(step[~np.isnan(step)]) for step in standardized.T),
    )


def _scale(given: _Given, trees: Sequence[Trees], steps: Sequence[int], horizon: int) -> NDArray[np.float64]:
    """The range forecast for every step, shape (n_origins, horizon)."""
    fitted_steps = np.column_stack([of_step.predict(given.features) for of_step in trees])  # (n_origins, n_steps)
    place = np.interp(np.log(np.arange(1, horizon + 1)), np.log(steps), np.arange(len(steps)))
    lower = place.astype(np.intp)
    upper = np.minimum(lower + 1, len(steps) - 1)
    weight = place - lower
    log_scale = given.usual[:, None] + (1 - weight) * fitted_steps[:, lower] + weight * fitted_steps[:, upper]
    scale: NDArray[np.float64] = np.exp(np.minimum(log_scale, MAX_LOG_SCALE))
    return scale


def _fitted_trees(features: NDArray[np.float64], target: NDArray[np.float64], seed: int) -> StoredTrees:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        learning_rate=LEARNING_RATE,
        max_iter=N_TREES,
        max_leaf_nodes=MAX_LEAVES,
        min_samples_leaf=MIN_LEAF,
        early_stopping=False,  # it would choose by outcomes that overlap those it learned from
        random_state=seed,
    )
    known = ~np.isnan(target)
    if known.sum() < MIN_OUTCOMES:
        raise NotFittable(f"need {MIN_OUTCOMES} outcomes of each step, found {known.sum()}")
    used = features[known]
    used[:, np.isnan(used).all(axis=0)] = 0.0  # scikit-learn cannot bin a feature that is never known
    return stored_trees(model.fit(used, target[known]))


def stored_trees(model: "HistGradientBoostingRegressor") -> StoredTrees:
    """The trees of a fitted model; scikit-learn has no public way to read them, so a test compares the predictions."""
    nodes = [tree.nodes for (tree,) in model._predictors]  # noqa: SLF001
    sizes = [len(one) for one in nodes]
    roots = np.cumsum([0, *sizes[:-1]])
    every = np.concatenate(nodes)
    offset = np.repeat(roots, sizes)
    is_leaf = every["is_leaf"].astype(np.bool_)
    own = np.arange(len(every))
    largest = np.finfo(np.float64).max  # the threshold of a split into known and unknown is infinite
    return StoredTrees(
        baseline=model._baseline_prediction.item(),  # noqa: SLF001
        roots=tuple(roots.tolist()),
        feature=tuple(np.where(is_leaf, -1, every["feature_idx"]).tolist()),
        threshold=tuple(np.where(is_leaf, 0.0, np.minimum(every["num_threshold"], largest)).tolist()),
        missing_left=tuple(every["missing_go_to_left"].astype(np.bool_).tolist()),
        left=tuple(np.where(is_leaf, own, offset + every["left"]).tolist()),
        right=tuple(np.where(is_leaf, own, offset + every["right"]).tolist()),
        value=tuple(np.where(is_leaf, every["value"], 0.0).tolist()),
    )
