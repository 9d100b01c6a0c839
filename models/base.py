"""What every model is: something that turns past bars into quantiles of future closes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Bars = NDArray[np.float64]
"""Open, high, low, close and volume per session, oldest first, shape (n_sessions, 5).

Closes are always known; the other columns may be NaN where a caller knows
closes only. Five more columns may follow, shape (n_sessions, 10): open, high,
low and close of the exchange's index at the same sessions, and the level of its
implied volatility in percent a year. Models that read them take columns that
are absent or NaN as unknown.
"""

Origins = NDArray[np.intp]
"""Row numbers in ``Bars`` of the last session known, shape (n_origins,)."""

OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)
MARKET_OPEN, MARKET_HIGH, MARKET_LOW, MARKET_CLOSE, IMPLIED_VOLATILITY = range(5, 10)
N_COLUMNS = 5
N_INPUTS = 10


def closes_only(closes: NDArray[np.float64]) -> Bars:
    """Bars in which everything but the close is unknown; closes of shape (n_sessions,)."""
    bars = np.full((len(closes), N_COLUMNS), np.nan)
    bars[:, CLOSE] = closes
    return bars


def with_columns(bars: Bars, count: int) -> Bars:
    """The first ``count`` columns, shape (n_sessions, count); absent ones are NaN."""
    missing = count - bars.shape[1]
    if missing <= 0:
        return bars[:, :count]
    return np.concatenate([bars, np.full((len(bars), missing), np.nan)], axis=1)


_TAIL = (0.001, 0.0025, 0.005)
QUANTILE_GRID: tuple[float, ...] = (
    *_TAIL,
    *(round(0.01 * k, 2) for k in range(1, 100)),
    *(1 - level for level in reversed(_TAIL)),
)
"""The levels at which a model states its distribution; others are interpolated."""


@dataclass(frozen=True, eq=False)
class QuantileForecast:
    """Quantiles of the close at steps 1…horizon after each origin.

    Attributes:
        quantile_levels: ascending, each in (0, 1), shape (n_levels,).
        prices: shape (n_origins, horizon, n_levels), quote currency,
            non-decreasing along the last axis.
    """

    quantile_levels: NDArray[np.float64]
    prices: NDArray[np.float64]

    @property
    def horizon(self) -> int:
        """Number of steps forecast."""
        return int(self.prices.shape[1])

    def at(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Quantiles at other levels, linear between those of the grid and constant beyond them.

        Args:
            levels: shape (n,).

        Returns:
            Prices, shape (n_origins, horizon, n).
        """
        grid = self.quantile_levels
        wanted = np.clip(levels, grid[0], grid[-1])
        upper = np.clip(np.searchsorted(grid, wanted), 1, grid.size - 1)
        weight = (wanted - grid[upper - 1]) / (grid[upper] - grid[upper - 1])
        below, above = self.prices[..., upper - 1], self.prices[..., upper]
        # not (1 - w)·below + w·above: rounding there can make equal neighbours cross
        between: NDArray[np.float64] = below + weight * (above - below)
        return between

    def intervals(self, levels: Sequence[float]) -> "Intervals":
        """The median and the central interval of each coverage level."""
        half = np.array(levels) / 2
        median, lower, upper = np.split(
            self.at(np.concatenate([[0.5], 0.5 - half, 0.5 + half])), [1, 1 + half.size], -1
        )
        return Intervals(median[..., 0], lower, upper)

    @property
    def median(self) -> NDArray[np.float64]:
        """The point forecast, shape (n_origins, horizon)."""
        return self.at(np.array([0.5]))[..., 0]


def never_narrowing(forecast: QuantileForecast) -> QuantileForecast:
    """The forecast with no quantile nearer to its median than that of the step before, in price.

    More can happen in more sessions; steps that are calibrated one by one do not know.
    """
    median = forecast.median[..., None]  # (n_origins, horizon, 1)
    distance = forecast.prices - median
    first_above = int(np.searchsorted(forecast.quantile_levels, 0.5))
    below, above = np.split(np.moveaxis(distance, 1, 0), [first_above], axis=-1)  # views, a step at a time
    for nearer, step in pairwise(below):  # several times faster than ``accumulate``
        np.minimum(step, nearer, out=step)
    for nearer, step in pairwise(above):
        np.maximum(step, nearer, out=step)
    distance += median
    if (distance > 0).all():
        return QuantileForecast(forecast.quantile_levels, distance)
    prices = np.where(distance > 0, distance, forecast.prices)  # the median fell by more than the quantile was below it
    from_median = prices[..., :first_above][..., ::-1]  # a quantile that was kept may lie above a nearer one that moved
    np.minimum.accumulate(from_median, axis=-1, out=from_median)
    return QuantileForecast(forecast.quantile_levels, prices)


class Intervals(NamedTuple):
    """Prices at steps 1…horizon after each origin.

    Attributes:
        median: the point forecast, shape (n_origins, horizon).
        lower, upper: interval bounds, shape (n_origins, horizon, n_levels).
    """

    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class Forecaster(Protocol):
    """A fitted model.

    Nothing after an origin may influence what is forecast from it, and bars
    multiplied by k must give prices multiplied by k.
    """

    @property
    def lookback(self) -> int:
        """Sessions needed up to and including an origin."""

    @property
    def horizon(self) -> int:
        """Steps forecast from each origin."""

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        """The distribution of the close at every step after every origin.

        Args:
            bars: shape (n_sessions, 5).
            origins: each in [lookback - 1, n_sessions - 1], shape (n_origins,).
        """


class FirstSteps:
    """Wraps a forecaster and forecasts its first ``horizon`` steps only."""

    def __init__(self, inner: Forecaster, horizon: int) -> None:
        self._inner = inner
        self.lookback = inner.lookback
        self.horizon = min(horizon, inner.horizon)

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        forecast = self._inner.predict_quantiles(bars, origins)
        return QuantileForecast(forecast.quantile_levels, forecast.prices[:, : self.horizon])
