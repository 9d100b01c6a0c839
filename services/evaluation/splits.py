"""Fit, calibration and test: three consecutive blocks of origins, in this order."""

import math
from dataclasses import dataclass

from errors import InsufficientHistory

CALIBRATION_SHARE = 0.25  # of the train part
MAX_CALIBRATION = 500  # more scores sharpen a margin little, and newer sessions are worth more to the fit
EARLY_STOPPING_SHARE = 0.15  # of the fit part
MIN_FIT = 120
MIN_CALIBRATION = 75  # leaves 46 scores for step 30, enough for 95 %
MIN_TEST = 20


@dataclass(frozen=True)
class Split:
    """Origins of each block; one origin is one lookback window with the session after it.

    ``early_stopping`` is the last slice of the fit part and is not in ``fit``.
    Targets of a block's origins may reach the session after its last origin
    (``target_stop``), never further: beyond lies the next block.
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
    """Cut the origins of a history into blocks.

    Args:
        ticker: for the message.
        n_sessions: length of the history.
        lookback: sessions per window; the first origin is ``lookback - 1``.
        train_size: share of the windows before the test part, in (0, 1).

    Raises:
        InsufficientHistory: a block would be too small to mean anything.

    >>> split_origins("PETR4.SA", n_sessions=1626, lookback=60, train_size=0.85).test
    range(1390, 1625)
    """
    needed = sessions_needed(lookback, train_size)
    if n_sessions < needed:
        raise InsufficientHistory(ticker, needed=needed, found=n_sessions)
    first, stop = lookback - 1, n_sessions - 1  # the last session is only a target
    n_train = _n_train(stop - first, train_size)
    n_calibration = max(MIN_CALIBRATION, min(MAX_CALIBRATION, round(n_train * CALIBRATION_SHARE)))
    n_fit = n_train - n_calibration
    n_stopping = max(1, round(n_fit * EARLY_STOPPING_SHARE))
    return Split(
        fit=range(first, first + n_fit - n_stopping),
        early_stopping=range(first + n_fit - n_stopping, first + n_fit),
        calibration=range(first + n_fit, first + n_train),
        test=range(first + n_train, stop),
    )


def sessions_needed(lookback: int, train_size: float) -> int:
    """The shortest history that ``split_origins`` accepts.

    >>> sessions_needed(lookback=60, train_size=0.8)
    304
    """
    n_windows = max(
        math.ceil((MIN_FIT + MIN_CALIBRATION) / train_size - 1e-9), math.ceil(MIN_TEST / (1 - train_size) - 1e-9)
    )
    while _n_train(n_windows, train_size) < MIN_FIT + MIN_CALIBRATION:
        n_windows += 1
    return lookback + n_windows


def _n_train(n_windows: int, train_size: float) -> int:
    return math.floor(n_windows * train_size + 1e-9)  # 100 * 0.29 is 28.999… in floats
