"""Drawdowns: how far each close is below the highest close before it, and the deepest episodes."""

import numpy as np

from schemas.analysis import DrawdownEpisode, Drawdowns
from services.analysis.values import Values, series_of
from services.prices.series import Sessions, to_date

N_DEEPEST = 5


def drawdowns(sessions: Sessions, closes: Values) -> Drawdowns:
    below = drawdown_of(closes)
    episodes = sorted(_episodes(sessions, closes, below), key=lambda episode: episode.depth)
    return Drawdowns(current=float(below[-1]), series=series_of(sessions, below), deepest=tuple(episodes[:N_DEEPEST]))


def drawdown_of(closes: Values) -> Values:
    """Close / highest close so far − 1 at each session, so never above 0.

    >>> drawdown_of(np.array([4.0, 3.0, 4.0, 8.0, 2.0])).tolist()
    [0.0, -0.25, 0.0, 0.0, -0.75]
    """
    below: Values = closes / np.maximum.accumulate(closes) - 1
    return below


def _episodes(sessions: Sessions, closes: Values, below: Values) -> list[DrawdownEpisode]:
    """Every stretch below a peak, up to the first close that reaches the peak again."""
    under = np.concatenate([[False], below < 0, [False]])
    starts = np.flatnonzero(under[1:] & ~under[:-1])
    stops = np.flatnonzero(~under[1:] & under[:-1])
    return [
        _episode(sessions, closes, below, peak=int(start) - 1, stop=int(stop))
        for start, stop in zip(starts, stops, strict=True)
    ]


def _episode(sessions: Sessions, closes: Values, below: Values, *, peak: int, stop: int) -> DrawdownEpisode:
    trough = peak + 1 + int(below[peak + 1 : stop].argmin())
    recovered = stop < closes.size
    return DrawdownEpisode(
        peak=to_date(sessions[peak]),
        trough=to_date(sessions[trough]),
        recovery=to_date(sessions[stop]) if recovered else None,
        depth=float(below[trough]),
        n_sessions_down=trough - peak,
        n_sessions=(stop if recovered else stop - 1) - peak,
    )
