"""Numbers for a JSON document: finite or null, and few enough to draw."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from schemas.analysis import Series
from services.prices.series import Sessions, to_date

Values = NDArray[np.float64]

MAX_POINTS = 500


def finite(value: float) -> float | None:
    """The number, or None for NaN and infinity, which JSON does not have.

    >>> finite(1.5), finite(float("nan")), finite(float("inf"))
    (1.5, None, None)
    """
    return float(value) if math.isfinite(value) else None


def all_finite(values: Iterable[float]) -> tuple[float | None, ...]:
    return tuple(finite(value) for value in values)


def thinned(values: Values) -> NDArray[np.intp]:
    """Row numbers, ascending: every k-th counted back from the last, at most ``MAX_POINTS``, and both extremes.

    Without the extremes a drawn line could miss the worst day.

    >>> thinned(np.array([3.0, 1.0, 2.0]))
    array([0, 1, 2])
    """
    step = -(-values.size // MAX_POINTS)
    regular = np.arange(values.size - 1, -1, -step)
    known = np.flatnonzero(np.isfinite(values))
    extremes = [] if not known.size else [known[values[known].argmin()], known[values[known].argmax()]]
    return np.unique(np.concatenate([regular, np.array(extremes, dtype=np.intp)]))


def series_of(sessions: Sessions, values: Values) -> Series:
    rows = thinned(values)
    return Series(sessions=tuple(to_date(day) for day in sessions[rows]), values=all_finite(values[rows]))


def robust_sd(values: Values) -> float:
    """1.4826 × the median distance from the median: the sd of normal values, and hardly affected by a few jumps.

    The plain standard deviation where more than half of the values are equal.

    >>> round(robust_sd(np.array([-1.0, 0.0, 1.0, 50.0, 0.0])), 4)
    1.4826
    """
    distance = np.abs(values - np.median(values))
    return 1.4826 * float(np.median(distance)) or float(values.std())


def p_text(p_value: float) -> str:
    """For sentences.

    >>> p_text(0.0312), p_text(1e-12)
    ('p = 0.031', 'p < 0.0001')
    """
    return f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"
