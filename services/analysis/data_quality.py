"""Possible defects of a price series: missing sessions, overnight jumps, unadjusted splits."""

from typing import TypeVar

import numpy as np

from schemas.analysis import DataQuality, MissingRun, OvernightGap, SuspectedSplit
from services.analysis.returns import log_returns
from services.analysis.values import Values, robust_sd
from services.prices.calendars import sessions_between
from services.prices.series import PriceSeries, Sessions, to_date

MAD_ZSCORE_THRESHOLD = 8.0
MAX_RUNS, MAX_LISTED = 50, 20
TOLERANCE = 0.03  # allowed around a split's ratio, as a log return: the move of an ordinary day

_Jump = TypeVar("_Jump", OvernightGap, SuspectedSplit)

_NEW_FOR_OLD = [(new, 1) for new in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 50, 100)] + [(3, 2), (5, 2)]
SPLITS = {f"{old}:{new}": old / new for new, old in _NEW_FOR_OLD} | {
    f"{new}:{old}": new / old for new, old in _NEW_FOR_OLD
}


def data_quality(series: PriceSeries) -> DataQuality:
    expected = sessions_between(series.exchange, series.first_session, series.last_session)
    missing, unexpected = calendar_differences(series.sessions, expected)
    gaps = overnight_gaps(series)
    runs = sorted(missing, key=lambda run: -run.n_sessions)[:MAX_RUNS]
    return DataQuality(
        exchange=series.exchange,
        n_missing_sessions=sum(run.n_sessions for run in missing),
        missing=tuple(sorted(runs, key=lambda run: run.first)),
        n_unexpected_sessions=unexpected,
        mad_zscore_threshold=MAD_ZSCORE_THRESHOLD,
        n_overnight_gaps=len(gaps),
        overnight_gaps=_largest(gaps),
        suspected_splits=_largest(suspected_splits(series)),
    )


def calendar_differences(sessions: Sessions, expected: Sessions) -> tuple[list[MissingRun], int]:
    """Runs of expected sessions that are missing, in order of time, and the number of unexpected sessions.

    Sessions outside the calendar's range are neither.
    """
    if not expected.size:
        return [], 0
    absent = np.concatenate([[False], ~np.isin(expected, sessions), [False]])
    starts = np.flatnonzero(absent[1:] & ~absent[:-1])
    stops = np.flatnonzero(~absent[1:] & absent[:-1])
    runs = [
        MissingRun(first=to_date(expected[start]), last=to_date(expected[stop - 1]), n_sessions=int(stop - start))
        for start, stop in zip(starts, stops, strict=True)
    ]
    within = sessions[(sessions >= expected[0]) & (sessions <= expected[-1])]
    return runs, int((~np.isin(within, expected)).sum())


def overnight_gaps(series: PriceSeries) -> list[OvernightGap]:
    """Opens more than ``MAD_ZSCORE_THRESHOLD`` robust sds from the previous close, in order of time.

    The sd is that of the log return from close to close. Indices open where they closed, so in units of the usual
    overnight gap every small gap would be large. Sessions with an unknown open are skipped.
    """
    gaps = np.log(series.bars[1:, 0]) - np.log(series.close[:-1])
    distances = _mad_zscores(gaps, log_returns(series.close))
    return [
        OvernightGap(
            session=to_date(series.sessions[row + 1]), log_return=float(gaps[row]), mad_zscore=float(distances[row])
        )
        for row in np.flatnonzero(np.abs(distances) > MAD_ZSCORE_THRESHOLD)
    ]


def suspected_splits(series: PriceSeries) -> list[SuspectedSplit]:
    """Closes whose ratio to the previous close is near a usual split and far outside a normal day, in order of time."""
    returns = log_returns(series.close)
    distances = _mad_zscores(returns - np.median(returns), returns)
    found = []
    for row in np.flatnonzero(np.abs(distances) > MAD_ZSCORE_THRESHOLD):
        name = nearest_split(float(returns[row]))
        if name is not None:
            found.append(
                SuspectedSplit(
                    session=to_date(series.sessions[row + 1]),
                    ratio=float(np.exp(returns[row])),
                    near=name,
                    mad_zscore=float(distances[row]),
                )
            )
    return found


def _mad_zscores(moves: Values, returns: Values) -> Values:
    """The moves in robust sds of the returns; zero where the returns never vary."""
    sd = robust_sd(returns)
    return moves / sd if sd > 0 else np.zeros_like(moves)


def nearest_split(log_return: float) -> str | None:
    """The split that would cause this move if prices were not adjusted, as a ratio of prices; None if there is none.

    >>> nearest_split(float(np.log(0.505))), nearest_split(float(np.log(3.02))), nearest_split(-0.1)
    ('1:2', '3:1', None)
    """
    name = min(SPLITS, key=lambda split: abs(log_return - float(np.log(SPLITS[split]))))
    return name if abs(log_return - float(np.log(SPLITS[name]))) <= TOLERANCE else None


def _largest(found: list[_Jump]) -> tuple[_Jump, ...]:
    largest = sorted(found, key=lambda jump: -abs(jump.mad_zscore))[:MAX_LISTED]
    return tuple(sorted(largest, key=lambda jump: jump.session))
