"""What may be wrong with a series: sessions missing, leaps overnight, splits that nobody adjusted."""

from typing import TypeVar

import numpy as np

from schemas.analysis import Irregularities, MissingRun, OvernightGap, SuspectedSplit
from services.analysis.returns import log_returns
from services.analysis.values import Values, robust_sd
from services.prices.calendars import sessions_between
from services.prices.series import PriceSeries, Sessions, to_date

THRESHOLD_SDS = 8.0
MAX_RUNS, MAX_LISTED = 50, 20
TOLERANCE = 0.03  # of a split's ratio, as a log return: that of an ordinary day

_Leap = TypeVar("_Leap", OvernightGap, SuspectedSplit)

_NEW_FOR_OLD = [(new, 1) for new in (2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 50, 100)] + [(3, 2), (5, 2)]
SPLITS = {f"{old}:{new}": old / new for new, old in _NEW_FOR_OLD} | {
    f"{new}:{old}": new / old for new, old in _NEW_FOR_OLD
}


def irregularities(series: PriceSeries) -> Irregularities:
    """Everything suspicious in the series; nothing is changed."""
    expected = sessions_between(series.exchange, series.first_session, series.last_session)
    missing, unexpected = calendar_differences(series.sessions, expected)
    gaps = overnight_gaps(series)
    runs = sorted(missing, key=lambda run: -run.n_sessions)[:MAX_RUNS]
    return Irregularities(
        exchange=series.exchange,
        n_missing_sessions=sum(run.n_sessions for run in missing),
        missing=tuple(sorted(runs, key=lambda run: run.first)),
        n_unexpected_sessions=unexpected,
        robust_sd_threshold=THRESHOLD_SDS,
        n_overnight_gaps=len(gaps),
        overnight_gaps=_largest(gaps),
        suspected_splits=_largest(suspected_splits(series)),
    )


def calendar_differences(held: Sessions, expected: Sessions) -> tuple[list[MissingRun], int]:
    """Runs of expected sessions that are not held, in order of time, and how many held ones are not expected.

    Days before the calendar begins are not expected and not counted either.
    """
    if not expected.size:
        return [], 0
    absent = np.concatenate([[False], ~np.isin(expected, held), [False]])
    starts = np.flatnonzero(absent[1:] & ~absent[:-1])
    stops = np.flatnonzero(~absent[1:] & absent[:-1])
    runs = [
        MissingRun(first=to_date(expected[start]), last=to_date(expected[stop - 1]), n_sessions=int(stop - start))
        for start, stop in zip(starts, stops, strict=True)
    ]
    known = held[(held >= expected[0]) & (held <= expected[-1])]
    return runs, int((~np.isin(known, expected)).sum())


def overnight_gaps(series: PriceSeries) -> list[OvernightGap]:
    """Opens further from the close before than ``THRESHOLD_SDS`` robust sds of a whole session, in order of time.

    The unit is the move from close to close: an index opens where it closed, so that in units of its usual gap every
    small one would be large. Sessions with an unknown open are left out.
    """
    gaps = np.log(series.bars[1:, 0]) - np.log(series.close[:-1])
    distances = _in_robust_sds(gaps, log_returns(series.close))
    return [
        OvernightGap(
            session=to_date(series.sessions[row + 1]), log_return=float(gaps[row]), mad_zscore=float(distances[row])
        )
        for row in np.flatnonzero(np.abs(distances) > THRESHOLD_SDS)
    ]


def suspected_splits(series: PriceSeries) -> list[SuspectedSplit]:
    """Closes near a ratio of small whole numbers to the one before and far beyond a usual day, in order of time."""
    returns = log_returns(series.close)
    distances = _in_robust_sds(returns - np.median(returns), returns)
    found = []
    for row in np.flatnonzero(np.abs(distances) > THRESHOLD_SDS):
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


def _in_robust_sds(moves: Values, returns: Values) -> Values:
    """The moves in robust sds of the returns; all zero where the returns never vary."""
    sd = robust_sd(returns)
    return moves / sd if sd > 0 else np.zeros_like(moves)


def nearest_split(log_return: float) -> str | None:
    """The split whose unadjusted price move this resembles, as the ratio of the prices, or None.

    >>> nearest_split(float(np.log(0.505))), nearest_split(float(np.log(3.02))), nearest_split(-0.1)
    ('1:2', '3:1', None)
    """
    name = min(SPLITS, key=lambda split: abs(log_return - float(np.log(SPLITS[split]))))
    return name if abs(log_return - float(np.log(SPLITS[name]))) <= TOLERANCE else None


def _largest(found: list[_Leap]) -> tuple[_Leap, ...]:
    largest = sorted(found, key=lambda leap: -abs(leap.mad_zscore))[:MAX_LISTED]
    return tuple(sorted(largest, key=lambda leap: leap.session))
