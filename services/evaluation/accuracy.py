"""Scores of point forecasts, as plain functions of prices."""

import numpy as np
from numpy.typing import NDArray

Prices = NDArray[np.float64]


def mae(actual: Prices, forecast: Prices) -> float:
    """Mean absolute error, in the unit of the prices.

    >>> mae(np.array([10.0, 20.0]), np.array([11.0, 18.0]))
    1.5
    """
    return float(np.mean(np.abs(actual - forecast)))


def mape(actual: Prices, forecast: Prices) -> float:
    """Mean absolute error as a fraction of the actual price (0.0124 is 1.24 %).

    >>> mape(np.array([10.0, 20.0]), np.array([11.0, 18.0]))
    0.1
    """
    return float(np.mean(np.abs((actual - forecast) / actual)))


def rmse(actual: Prices, forecast: Prices) -> float:
    """Root of the mean squared error, in the unit of the prices.

    >>> rmse(np.array([10.0, 20.0]), np.array([13.0, 17.0]))
    3.0
    """
    return float(np.sqrt(np.mean((actual - forecast) ** 2)))


def r2(actual: Prices, forecast: Prices) -> float:
    """Coefficient of determination on price levels; near 1 even for persistence, so not a sign of skill.

    Returns:
        1 − SSE / SST; NaN where the actual prices are all the same.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    spread = np.sum((actual - actual.mean()) ** 2)
    return float(1 - np.sum((actual - forecast) ** 2) / spread) if spread > 0 else float("nan")


def skill(score: float, score_persistence: float) -> float:
    """Share of persistence's error that is saved: 1 − score / score_persistence, from the same origins.

    >>> skill(0.75, 1.0)
    0.25
    """
    return 1 - score / score_persistence if score_persistence > 0 else float("nan")


def coverage(actual: Prices, lower: Prices, upper: Prices) -> float:
    """Share of actuals in [lower, upper], NaN actuals left out.

    >>> coverage(np.array([1.0, 5.0]), np.array([0.0, 0.0]), np.array([2.0, 2.0]))
    0.5
    """
    known = ~np.isnan(actual)
    return float(np.mean((actual[known] >= lower[known]) & (actual[known] <= upper[known])))
