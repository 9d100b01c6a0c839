"""Scores of forecasts, as plain functions of arrays.

Every score takes the actual values first. Forecasts whose actual value is NaN
(not known yet) are left out; if no value is known, the score is NaN. Actuals,
point forecasts and bounds have the same shape; quantiles have one more axis at
the end, for the levels.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Prices = Values

CRPS_LEVELS: Values = np.arange(1, 100) / 100
"""The even grid on which CRPS is taken wherever it is reported."""

ROUNDING = 1e-9
"""A smaller relative difference is none: prices that went through their logarithm differ by 1e-16 from themselves."""


def mean(values: Values) -> float:
    """Mean of the known values; NaN without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def or_none(figure: float) -> float | None:
    """The value, or None for NaN, which JSON does not have."""
    return None if np.isnan(figure) else figure


def mae(actual: Prices, forecast: Prices) -> float:
    """Mean absolute error, in the unit of the prices.

    >>> mae(np.array([10.0, 20.0]), np.array([11.0, 18.0]))
    1.5
    """
    return mean(np.abs(actual - forecast))


def mape(actual: Prices, forecast: Prices) -> float:
    """Mean absolute error as a fraction of the actual price (0.0124 is 1.24 %).

    >>> mape(np.array([10.0, 20.0]), np.array([11.0, 18.0]))
    0.1
    """
    return mean(np.abs((actual - forecast) / actual))


def rmse(actual: Prices, forecast: Prices) -> float:
    """Root of the mean squared error, in the unit of the prices.

    >>> rmse(np.array([10.0, 20.0]), np.array([13.0, 17.0]))
    3.0
    """
    return float(np.sqrt(mean((actual - forecast) ** 2)))


def r2(actual: Prices, forecast: Prices) -> float:
    """Coefficient of determination on price levels; near 1 even for persistence, so not a sign of skill.

    Returns:
        1 − SSE / SST; NaN where the actual prices are all the same.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    spread = mean((actual - mean(actual)) ** 2)
    return 1 - mean((actual - forecast) ** 2) / spread if spread > 0 else float("nan")


def mase(actual: Prices, forecast: Prices, train: Prices) -> float:
    """Mean absolute scaled error: MAE / mean |train_t − train_{t−1}|, without unit.

    The divisor is always the error of one-step persistence on the train part, so
    that steps and tickers can be compared.

    Args:
        actual: prices that followed.
        forecast: of the shape of ``actual``.
        train: the closes of the train part in order, shape (n_sessions,).

    Returns:
        NaN where the train part never moves, or is a single session.

    Source: Hyndman and Koehler (2006), Int. J. Forecasting.

    >>> mase(np.array([10.0]), np.array([13.0]), train=np.array([1.0, 3.0, 1.0]))
    1.5
    """
    scale = mean(np.abs(np.diff(train)))
    return mae(actual, forecast) / scale if scale > 0 else float("nan")


def hit_rate(actual: Prices, forecast: Prices, last: Prices) -> float:
    """Share of forecasts on the right side of the last close: sign(forecast − last) = sign(actual − last).

    Args:
        actual: prices that followed.
        forecast: of the shape of ``actual``.
        last: the close at each origin, broadcastable to ``actual``.

    Returns:
        In [0, 1]. A forecast or a price that did not move has no direction and is
        left out, so persistence scores NaN.

    >>> hit_rate(np.array([11.0, 9.0, 12.0]), np.array([12.0, 11.0, 10.0]), last=np.array([10.0]))
    0.5
    """
    moved = np.abs(forecast - last) > ROUNDING * last
    agreement = np.where(moved, np.sign(forecast - last), 0) * np.sign(actual - last)
    return mean((agreement[np.abs(agreement) == 1] > 0).astype(np.float64))


def skill(score: float, score_persistence: float) -> float:
    """How much smaller the score is than persistence's: 1 − score / score_persistence, from the same origins.

    >>> skill(0.75, 1.0)
    0.25
    """
    saved = 1 - score / score_persistence if score_persistence > 0 else float("nan")
    return 0.0 if abs(saved) < ROUNDING else saved


def coverage(actual: Prices, lower: Prices, upper: Prices) -> float:
    """Share of actuals in [lower, upper].

    >>> coverage(np.array([1.0, 5.0]), np.array([0.0, 0.0]), np.array([2.0, 2.0]))
    0.5
    """
    inside = (actual >= lower) & (actual <= upper)
    return mean(np.where(np.isnan(actual), np.nan, inside))


def width(actual: Prices, lower: Prices, upper: Prices) -> float:
    """Mean of upper − lower, in the unit of the prices; read it with the coverage from the same origins.

    >>> width(np.array([1.0, np.nan]), np.array([0.0, 0.0]), np.array([2.0, 8.0]))
    2.0
    """
    return mean(np.where(np.isnan(actual), np.nan, upper - lower))


def interval_score(actual: Prices, lower: Prices, upper: Prices, level: float) -> float:
    """Mean of (upper − lower) + 2 / (1 − level) · (distance of the actual to the interval); lower is better.

    In the unit of the prices.

    Args:
        actual: prices that followed.
        lower: bound, of the shape of ``actual``.
        upper: likewise.
        level: coverage level, 0 < level < 1 (0.9, not 90).

    Source: Gneiting and Raftery (2007), JASA.

    >>> interval_score(np.array([1.0, 3.0]), np.zeros(2), np.full(2, 2.0), level=0.5)
    4.0
    """
    missed = np.maximum(lower - actual, 0) + np.maximum(actual - upper, 0)  # NaN where not known
    return mean(upper - lower + 2 / (1 - level) * missed)


def pinball_losses(actual: Values, quantiles: Values, levels: Values) -> Values:
    """max(τ·e, (τ − 1)·e) with e = actual − quantile, of each forecast and level, in the unit of ``actual``.

    Args:
        actual: shape (...), NaN where not known.
        quantiles: shape (..., n_levels).
        levels: τ of each, in (0, 1), shape (n_levels,).

    Returns:
        Never negative, whatever the signs; shape (..., n_levels), NaN where not known.

    Source: Koenker and Bassett (1978), Econometrica.

    >>> pinball_losses(np.array([3.0]), np.array([[1.0, 5.0]]), np.array([0.25, 0.75])).tolist()
    [[0.5, 0.5]]
    """
    error = actual[..., None] - quantiles
    losses: Values = np.maximum(levels * error, (levels - 1) * error)
    return losses


def pinball_loss(actual: Values, quantiles: Values, levels: Values) -> float:
    """Mean of ``pinball_losses``, over forecasts and levels.

    >>> pinball_loss(np.array([3.0, np.nan]), np.array([[1.0, 5.0], [0.0, 0.0]]), np.array([0.25, 0.75]))
    0.5
    """
    return mean(pinball_losses(actual, quantiles, levels))


def crps_losses(actual: Values, quantiles: Values, levels: Values) -> Values:
    """Continuous ranked probability score of each forecast: 2 × the mean pinball loss over the levels.

    The integral of 2 × pinball over all levels, taken on a grid that must be even
    (``CRPS_LEVELS``); in the unit of ``actual``. A point forecast scores about its absolute error.

    Takes what ``pinball_losses`` takes.

    Returns:
        Never negative, shape of ``actual``, NaN where not known.

    Source: Gneiting and Raftery (2007), JASA.

    >>> crps_losses(np.array([3.0]), np.array([[1.0, 1.0, 1.0]]), np.array([0.25, 0.5, 0.75])).tolist()
    [2.0]
    """
    losses: Values = 2 * pinball_losses(actual, quantiles, levels).mean(axis=-1)
    return losses


def point_crps_losses(actual: Prices, forecast: Prices) -> Values:
    """CRPS of point forecasts, on the grid of every other CRPS, so that equal forecasts score exactly the same."""
    return crps_losses(actual, np.broadcast_to(forecast[..., None], (*actual.shape, CRPS_LEVELS.size)), CRPS_LEVELS)


def log_return_crps_losses(actual: Prices, quantiles: Prices, levels: Values) -> Values:
    """CRPS of each forecast of the cumulative log return, from prices. It has no unit, so tickers can be compared.

    The close at the origin cancels in ln(actual / close) − ln(quantile / close).

    Takes what ``pinball_losses`` takes, in prices.

    Returns:
        Never negative, shape of ``actual``, NaN where not known.

    >>> log_return_crps_losses(np.array([np.e]), np.array([[1.0]]), np.array([0.5])).tolist()
    [1.0]
    """
    return crps_losses(np.log(actual), np.log(quantiles), levels)
