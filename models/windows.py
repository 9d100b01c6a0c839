"""Lookback windows and their targets, cut from bars without a loop over rows."""

import numpy as np
from numpy.typing import NDArray

from models.base import CLOSE, Bars, Origins
from models.trading import MAX_IDLE, have_ranges, is_untraded, with_ranges


def lookback_windows(bars: Bars, origins: Origins, lookback: int) -> Bars:
    """The last ``lookback`` sessions that traded, up to each origin.

    Sessions without a trade are left out where enough others are within ``sessions_needed``, and stay in the window
    elsewhere. Bars without a range get one, see ``with_ranges``.

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
    assert origins.size == 0 or (origins.min() >= lookback - 1 and origins.max() < len(bars)), "origin out of range"  # noqa: S101 - never input
    if origins.size:  # callers pass whole histories
        first = max(int(origins.min()) + 1 - sessions_needed(lookback), 0)
        bars, origins = bars[first : int(origins.max()) + 1], origins - first
    windows = np.lib.stride_tricks.sliding_window_view(bars, lookback, axis=0)  # (n - lookback + 1, 5, lookback)
    chosen: Bars = windows[origins - lookback + 1].transpose(0, 2, 1)  # (n_origins, lookback, 5)
    untraded = is_untraded(bars)
    if untraded.any():
        chosen = _past_untraded(bars, origins, lookback, untraded, chosen)
    # a look at each bar is a sixtieth of one at each bar of each window
    return chosen if have_ranges(bars) else with_ranges(chosen)


def sessions_needed(lookback: int) -> int:
    """Sessions up to and including an origin that determine its window."""
    return lookback + MAX_IDLE


def _past_untraded(bars: Bars, origins: Origins, lookback: int, untraded: NDArray[np.bool_], plain: Bars) -> Bars:
    """Windows of traded sessions where there are enough of them, else the plain ones."""
    traded = np.flatnonzero(~untraded)
    n_known = np.cumsum(~untraded)[origins]  # traded sessions up to each origin
    places = n_known[:, None] - lookback + np.arange(lookback)  # (n_origins, lookback)
    rows = traded[np.maximum(places, 0)]
    # whether the first of the needed sessions traded is unknown: the close before it is not one of them
    reached = (n_known >= lookback) & (rows[:, 0] >= origins - sessions_needed(lookback) + 2)
    return np.where(reached[:, None, None], bars[rows], plain)


def future_closes(bars: Bars, origins: Origins, horizon: int, stop: int | None = None) -> NDArray[np.float64]:
    """The closes at steps 1…horizon after each origin, NaN at row ``stop`` and beyond.

    NaN too where nothing has traded since the origin: a repeated price is not an outcome.

    Args:
        bars: shape (n_sessions, 5).
        origins: row numbers, shape (n_origins,).
        horizon: steps after the origin.
        stop: first row that must not be read, such as the start of the next
            block; the end of ``bars`` where None.

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
    rows = np.where(known, rows, 0)
    closes: NDArray[np.float64] = np.where(known, bars[rows, CLOSE], np.nan)
    untraded = is_untraded(bars)
    if untraded.any():
        n_traded = np.cumsum(~untraded)
        closes[n_traded[rows] == n_traded[origins, None]] = np.nan
    return closes


def target_stop(block: range) -> int:
    """First session that the targets of a block must not read, because it belongs to the next block.

    >>> target_stop(range(59, 100))  # the last origin is 99, its next session 100
    101
    """
    return block.stop + 1
