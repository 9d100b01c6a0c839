"""Lookback windows and their targets, cut from bars without a loop over rows."""

import numpy as np
from numpy.typing import NDArray

from models.base import CLOSE, Bars, Origins


def lookback_windows(bars: Bars, origins: Origins, lookback: int) -> Bars:
    """The ``lookback`` sessions ending at each origin.

    Args:
        bars: shape (n_sessions, 5).
        origins: each in [lookback - 1, n_sessions - 1].
        lookback: sessions per window.

    Returns:
        Shape (n_origins, lookback, 5), oldest session first.

    >>> bars = np.arange(20.0).reshape(4, 5)
    >>> lookback_windows(bars, np.array([3]), lookback=2)[0, :, 0].tolist()
    [10.0, 15.0]
    """
    assert origins.size == 0 or (origins.min() >= lookback - 1 and origins.max() < len(bars)), "origin out of range"  # noqa: S101 - our own mistake, never input
    windows = np.lib.stride_tricks.sliding_window_view(bars, lookback, axis=0)  # (n - lookback + 1, 5, lookback)
    chosen: Bars = windows[origins - lookback + 1].transpose(0, 2, 1)  # (n_origins, lookback, 5)
    return chosen


def future_closes(bars: Bars, origins: Origins, horizon: int, stop: int | None = None) -> NDArray[np.float64]:
    """The closes at steps 1…horizon after each origin, NaN at row ``stop`` and beyond.

    Args:
        bars: shape (n_sessions, 5).
        origins: row numbers, shape (n_origins,).
        horizon: steps after the origin.
        stop: first row that must not be seen, such as the start of the next
            block; the end of ``bars`` when None.

    Returns:
        Prices, shape (n_origins, horizon).

    >>> bars = np.repeat(np.arange(1.0, 5.0), 5).reshape(4, 5)
    >>> future_closes(bars, np.array([1, 2]), horizon=2)
    array([[ 3.,  4.],
           [ 4., nan]])
    """
    stop = len(bars) if stop is None else min(stop, len(bars))
    rows = origins[:, None] + np.arange(1, horizon + 1)  # (n_origins, horizon)
    known = rows < stop
    closes: NDArray[np.float64] = np.where(known, bars[np.where(known, rows, 0), CLOSE], np.nan)
    return closes


def target_stop(block: range) -> int:
    """First session that the targets of a block of origins must not see, because it belongs to the next block.

    >>> target_stop(range(59, 100))  # the last origin is 99, its next session 100
    101
    """
    return block.stop + 1


def closes_only(bars: Bars) -> Bars:
    """The same bars with everything but the closes unknown, shape (n_sessions, 5)."""
    closes = np.full_like(bars, np.nan)
    closes[:, CLOSE] = bars[:, CLOSE]
    return closes
