"""Fit, calibration and test: three consecutive blocks of origins, in this order."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from errors import InsufficientHistory
from services.prices.series import Sessions

CALIBRATION_SHARE = 0.25  # of the train part
MAX_CALIBRATION = 500  # more scores sharpen a margin little, and newer sessions serve the fit better
EARLY_STOPPING_SHARE = 0.15  # of the fit part
MAX_EARLY_STOPPING = 250  # of each ticker: a year
MIN_FIT = 120
MIN_CALIBRATION = 75  # leaves 46 scores for step 30, enough for 95 %
MIN_TEST = 20
MIN_OWN_FIT = 20  # of each ticker in a pool


@dataclass(frozen=True)
class Split:
    """Origins of each block; one origin is one lookback window with the session after it.

    ``early_stopping`` is the last slice of the fit part and is not in ``fit``.
    Targets of a block may reach the session after its last origin
    (``target_stop``) but no further, because there the next block begins.
    """

    fit: range
    early_stopping: range
    calibration: range
    test: range

    @property
    def train(self) -> range:
        """Everything before the test part."""
        return range(self.fit.start, self.calibration.stop)


def split_origins(ticker: str, n_sessions: int, lookback: int, train_size: float) -> Split:
    """Cut the origins of one history into blocks, see ``split_together``.

    >>> split_origins("PETR4.SA", n_sessions=1626, lookback=60, train_size=0.85).test
    range(1390, 1625)
    """
    sessions = np.arange(n_sessions).astype("datetime64[D]")
    (split,) = split_together({ticker: sessions}, lookback, train_size)
    return split


def split_together(sessions: Mapping[str, Sessions], lookback: int, train_size: float) -> tuple[Split, ...]:
    """Cut the origins of several histories at the same dates, so that no block sees another's future.

    Args:
        sessions: of each ticker, ascending.
        lookback: sessions per window; the first origin is ``lookback - 1``.
        train_size: share of all windows before the test part, in (0, 1).

    Raises:
        InsufficientHistory: a ticker has too few sessions for blocks that mean anything.
    """
    needed = sessions_needed(lookback, train_size)
    for ticker, days in sessions.items():
        if days.size < needed:
            raise InsufficientHistory(ticker, needed=needed, found=int(days.size))
    origins = [days[lookback - 1 : -1] for days in sessions.values()]  # the last session is only a target
    cuts = _cuts(np.sort(np.concatenate(origins)), len(origins), train_size)
    splits = tuple(_split_at(days, cuts, first=lookback - 1) for days in origins)
    for (ticker, days), split in zip(sessions.items(), splits, strict=True):
        if len(split.fit) < MIN_OWN_FIT:  # it begins so late that the others leave it no part in the fit
            raise InsufficientHistory(
                ticker, needed=int(days.size) + MIN_OWN_FIT - len(split.fit), found=int(days.size)
            )
    return splits


def split_universe(sessions: Mapping[str, Sessions], lookback: int, train_size: float) -> dict[str, Split]:
    """As ``split_together``, without the tickers that have too few sessions.

    Raises:
        InsufficientHistory: no ticker has enough.
    """
    needed = sessions_needed(lookback, train_size)
    origins = {ticker: days[lookback - 1 : -1] for ticker, days in sessions.items() if days.size >= needed}
    if not origins:
        longest = max(sessions, key=lambda ticker: sessions[ticker].size)
        raise InsufficientHistory(longest, needed=needed, found=int(sessions[longest].size))
    cuts = _cuts(np.sort(np.concatenate([*origins.values()])), len(origins), train_size)
    splits = {ticker: _split_at(days, cuts, first=lookback - 1) for ticker, days in origins.items()}
    return {ticker: split for ticker, split in splits.items() if len(split.fit) >= MIN_OWN_FIT and split.calibration}


def _cuts(days: Sessions, n_tickers: int, train_size: float) -> Sessions:
    """First days of the early-stopping, calibration and test blocks, from the days of all origins, ascending."""
    n_train = _n_train(days.size, train_size)
    n_fit, _ = _block_sizes(n_train, n_tickers)
    n_stopping = max(1, min(MAX_EARLY_STOPPING * n_tickers, round(n_fit * EARLY_STOPPING_SHARE)))
    return days[[n_fit - n_stopping, n_fit, n_train]]


def _block_sizes(n_train: int, n_tickers: int) -> tuple[int, int]:
    """The number of origins of the train part for fitting (early stopping included) and for calibration."""
    most = MAX_CALIBRATION * n_tickers
    n_calibration = max(MIN_CALIBRATION, min(most, round(n_train * CALIBRATION_SHARE)))
    return n_train - n_calibration, n_calibration


def _split_at(days: Sessions, cuts: Sessions, first: int) -> Split:
    stopping, calibration, test = (first + int(row) for row in np.searchsorted(days, cuts))
    return Split(
        fit=range(first, stopping),
        early_stopping=range(stopping, calibration),
        calibration=range(calibration, test),
        test=range(test, first + days.size),
    )


def split_train(ticker: str, n_sessions: int, lookback: int) -> Split:
    """Cut a whole history into fit and calibration, with an empty test part: for a model that forecasts from its end.

    Raises:
        InsufficientHistory: the history is too short.
    """
    first, stop = lookback - 1, n_sessions - 1
    if stop - first < MIN_FIT + MIN_CALIBRATION:
        raise InsufficientHistory(ticker, needed=lookback + MIN_FIT + MIN_CALIBRATION, found=n_sessions)
    fit, calibration = _block_sizes(stop - first, n_tickers=1)
    stopping = first + fit - max(1, round(fit * EARLY_STOPPING_SHARE))
    return Split(
        fit=range(first, stopping),
        early_stopping=range(stopping, first + fit),
        calibration=range(first + fit, first + fit + calibration),
        test=range(stop, stop),
    )


def sessions_needed(lookback: int, train_size: float) -> int:
    """The shortest history that ``split_origins`` accepts.

    >>> sessions_needed(lookback=60, train_size=0.8)
    304
    """
    n_windows = max(
        math.ceil((MIN_FIT + MIN_CALIBRATION) / train_size - 1e-9), math.ceil(MIN_TEST / (1 - train_size) - 1e-9)
    )
    return lookback + n_windows


def _n_train(n_windows: int, train_size: float) -> int:
    return math.floor(n_windows * train_size + 1e-9)  # 100 * 0.29 is 28.999… in floats
