"""Whether a session traded, and a substitute for the range of a bar that shows none.

Daily bars with one price for open, high, low and close come in two kinds. With a
move, the session was locked at its limit, or only its close is on record: its
range is unknown, and larger than zero. Without a move and without volume,
nothing traded: the price is that of an earlier session. Taken literally, both
would make a range estimator report a calm market.
"""

import math

import numpy as np
from numpy.typing import NDArray

from models.base import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, Forecaster, Origins, QuantileForecast

MAX_IDLE = 120  # sessions without a trade that a window leaves out: half a year
MIN_RANGED = 0.5  # share of a window: below it, closes estimate volatility better than the few ranges
_FLAT = 1e-6  # relative: adjusted prices carry rounding of about 1e-8
_RANGE_PER_SD = 2.0 * math.sqrt(math.log(2.0))  # Parkinson (1980): the log range whose estimate is one s.d.

Mask = NDArray[np.bool_]


def is_flat(bars: Bars) -> Mask:
    """Whether open, high, low and close are known and one price; ``bars`` (…, 5), result (…)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (np.abs(bars[..., :CLOSE] - bars[..., CLOSE, None]) <= _FLAT * bars[..., CLOSE, None]).all(-1)
        )


def is_untraded(bars: Bars) -> Mask:
    """Whether each session repeats the close before in a flat bar without volume, or has no close, (n_sessions,)."""
    closes = bars[:, CLOSE]
    idle = is_flat(bars)
    if idle.any():
        idle &= ~(bars[:, VOLUME] > 0)
        idle[1:] &= np.abs(np.diff(closes)) <= _FLAT * closes[:-1]
        idle[:1] = False  # no close before it
    return idle | np.isnan(closes)


def idle_sessions(bars: Bars, origins: Origins) -> NDArray[np.intp]:
    """Sessions without a trade at the end of what is known at each origin, at most MAX_IDLE, shape (n_origins,).

    >>> bars = np.array([[1, 2, 1, 1, 9], [2, 2, 2, 2, 9], [2, 2, 2, 2, 0], [2, 2, 2, 2, 0]], dtype=float)
    >>> idle_sessions(bars, np.array([1, 3])).tolist()
    [0, 2]
    """
    traded = ~is_untraded(bars)
    last_traded = np.maximum.accumulate(np.where(traded, np.arange(len(bars)), -1))
    return np.minimum(origins - last_traded[origins], MAX_IDLE)


def garman_klass(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of each session from log open, high, low and close, (…, 4) to (…).

    Source: Garman and Klass (1980), J. Business.
    """
    variance: NDArray[np.float64] = (
        0.5 * (logs[..., HIGH] - logs[..., LOW]) ** 2
        - (2 * math.log(2) - 1) * (logs[..., CLOSE] - logs[..., OPEN]) ** 2
    )
    return variance


def have_ranges(bars: Bars) -> bool:
    """Whether ``with_ranges`` changes nothing in any window of these bars, (n_sessions, 5)."""
    bare, no_open = _without_range(bars)
    return not (bare.any() or no_open.any())


def with_ranges(windows: Bars) -> Bars:
    """Windows (n, lookback, 5) in which every bar has a range, or no bar has.

    A bar without a range gets one whose variance is the mean of its squared return
    and of the window's mean Garman-Klass variance, because one return alone is a
    noisy estimate. An unknown open within a known range becomes the close before.
    Where fewer than MIN_RANGED of a window's sessions have a range, open, high and
    low of all become NaN: closes only.
    """
    bare, no_open = _without_range(windows)  # (n, lookback)
    touched = (bare | no_open).any(1) & ~bare.all(1)
    if not touched.any():
        return windows
    result = windows.copy()
    result[touched] = _ranged(windows[touched], bare[touched], no_open[touched])
    return result


def _without_range(bars: Bars) -> tuple[Mask, Mask]:
    """Whether each bar has no range, and whether it has one but no open; ``bars`` (…, 5), results (…)."""
    bare = np.isnan(bars[..., HIGH]) | np.isnan(bars[..., LOW]) | is_flat(bars)
    return bare, np.isnan(bars[..., OPEN]) & ~bare


def _ranged(windows: Bars, bare: Mask, no_open: Mask) -> Bars:
    logs = np.log(windows[..., : CLOSE + 1])
    close = logs[..., CLOSE]
    before = np.concatenate([close[:, :1], close[:, :-1]], axis=1)
    logs[..., OPEN] = np.where(no_open, np.clip(before, logs[..., LOW], logs[..., HIGH]), logs[..., OPEN])

    usual = np.where(bare, 0.0, garman_klass(logs)).sum(1, keepdims=True) / (~bare).sum(1, keepdims=True)
    move = close - before
    deviation = np.sqrt((move**2 + usual) / 2)  # (n, lookback)
    body = np.where(move < 0, -deviation, deviation)
    tail = (_RANGE_PER_SD - 1) / 2 * deviation
    filled = {
        OPEN: close - body,
        HIGH: np.maximum(close, close - body) + tail,
        LOW: np.minimum(close, close - body) - tail,
    }

    result = windows.copy()
    mostly_bare = bare.mean(1) > 1 - MIN_RANGED
    for column in (OPEN, HIGH, LOW):
        result[..., column] = np.exp(np.where(bare, filled[column], logs[..., column]))
        result[mostly_bare, :, column] = np.nan
    return result


class HaltAwareForecaster:
    """Wraps a forecaster and widens its forecast where the newest sessions did not trade.

    After k sessions without a trade, the log distances from the median at step h grow by √((k + h) / h), as those of
    a random walk do.
    """

    def __init__(self, inner: Forecaster) -> None:
        self.inner = inner
        self.lookback = inner.lookback
        self.horizon = inner.horizon

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        forecast = self.inner.predict_quantiles(bars, origins)
        idle = idle_sessions(bars, origins)
        if not idle.any():
            return forecast
        steps = np.arange(1, forecast.horizon + 1)
        growth = np.sqrt((idle[:, None] + steps) / steps)  # (n_origins, horizon)
        logs = np.log(forecast.prices)
        middle = np.log(forecast.median)[..., None]
        return QuantileForecast(forecast.quantile_levels, np.exp(middle + growth[..., None] * (logs - middle)))
