"""Tests whether one forecast was better than another by more than chance."""

import math
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from services.evaluation.accuracy import ROUNDING, mean, or_none

Losses = NDArray[np.float64]

BLOCK = 20  # sessions, a month: differences of two forecasts of volatility stay alike for weeks
MAX_BLOCKS = 20


def can_test() -> bool:
    """Whether this installation has scipy, and with it Student's t."""
    return find_spec("scipy") is not None


def p_value(
    loss: Losses, reference: Losses, overlap: int, sessions: NDArray[np.datetime64] | None = None
) -> float | None:
    """The p-value of equal accuracy, see ``diebold_mariano``; None with few origins, equal losses or no scipy.

    Args:
        loss: losses of origins in order, shape (n_origins, n_steps), NaN where unknown. An origin counts once, with the
            mean of its steps, if all of them are known.
        reference: losses of the other forecast, from the same origins.
        overlap: successive origins whose outcomes share sessions.
        sessions: the session of each origin, shape (n_origins,); origins of one session count once, with their mean.
    """
    difference = (loss - reference).mean(axis=1)
    known = ~np.isnan(difference)
    difference = difference[known]
    difference[np.abs(difference) <= ROUNDING * mean(np.abs(reference))] = 0
    if sessions is not None and known.any():
        _, day = np.unique(sessions[known], return_inverse=True)
        difference = np.bincount(day, difference) / np.bincount(day)
    if difference.size < 2 * overlap + 2:
        return None
    return or_none(diebold_mariano(difference, np.zeros_like(difference), overlap))


def diebold_mariano(loss: Losses, loss_other: Losses, horizon: int) -> float:
    """Two-sided p-value of the hypothesis that two forecasts are equally accurate on average.

    With d the difference of the losses and n their number, the statistic is
    mean(d) / √(V / n) · √((n − h)(n − h + 1)) / n, compared with Student's t of
    n − 1 degrees of freedom. V is the Newey–West variance with h − 1 lags: errors
    of overlapping h-step forecasts are correlated that far. The last factor is
    the correction for small samples; for h = 1 this is the paired t-test. If
    the differences are as correlated as overlapping sums, p-values below 0.05
    occur by chance up to twice as often as they should, mostly at far steps.

    Args:
        loss: losses from successive origins in order, lower is better, shape (n_origins,); NaN if unknown.
        loss_other: losses of the other forecast, from the same origins.
        horizon: step forecast, h >= 1, in units of the distance between successive origins.

    Returns:
        In [0, 1]; NaN where the losses are the same or not more than ``horizon`` are known, or this
        installation has no scipy.

    Source: Diebold and Mariano (1995), J. Business & Economic Statistics; Newey and West (1987), Econometrica;
    Harvey, Leybourne and Newbold (1997), Int. J. Forecasting, eq. 8, its factor simplified.

    >>> round(diebold_mariano(np.array([1.0, 3.0, 5.0]), np.array([0.0, 1.0, 2.0]), horizon=1), 4)
    0.0742
    """
    if not can_test():
        return float("nan")
    from scipy.special import stdtr  # scipy.stats, which has the same distribution, takes half a second to import

    difference = loss - loss_other
    difference = difference[~np.isnan(difference)]
    n = difference.size
    if n <= horizon or not difference.any():
        return float("nan")
    variance = long_run_variance(difference, lags=horizon - 1) / n
    if variance == 0:
        return 0.0  # the same difference at every origin
    correction = math.sqrt((n - horizon) * (n - horizon + 1)) / n
    statistic = correction * difference.mean() / math.sqrt(variance)
    return float(2 * stdtr(n - 1, -abs(statistic)))


def block_p_value(difference: Losses) -> float | None:
    """One-sided p-value of the hypothesis that a difference of losses is not negative on average.

    The differences are cut into consecutive blocks of the same length, ``BLOCK`` or more, and Student's t-test is of
    the means of the blocks. It is valid for small p-values too, where ``diebold_mariano`` rejects several times too
    often: the difference of two forecasts of volatility keeps its sign for weeks, longer than outcomes overlap.

    Args:
        difference: one for each session in order, shape (n,).

    Returns:
        None with fewer than three blocks, without any difference, or without scipy.

    Source: Ibragimov and Müller (2010), J. Business & Economic Statistics.

    >>> block_p_value(np.arange(59.0)) is None
    True
    """
    n_blocks = min(MAX_BLOCKS, difference.size // BLOCK)
    if n_blocks < 3 or not can_test() or not difference.any():
        return None
    from scipy.special import stdtr

    means = np.array([block.mean() for block in np.array_split(difference, n_blocks)])
    spread = float(means.std(ddof=1)) / math.sqrt(n_blocks)
    if spread == 0:
        return 0.0 if means[0] < 0 else 1.0
    return float(stdtr(n_blocks - 1, means.mean() / spread))


def long_run_variance(values: Losses, lags: int, *, centre: bool = True) -> float:
    """Newey and West's c_0 + 2 · Σ_k (1 − k / (lags + 1)) · c_k over k = 1…lags, with c_k the autocovariance at lag k.

    The weights keep it from becoming negative. Without ``centre``, the mean is known to be 0.
    """
    centred: Losses = values - values.mean() if centre else values
    n = centred.size
    terms: list[float] = [
        (1 - k / (lags + 1)) * float(centred[k:] @ centred[: max(n - k, 0)]) / n for k in range(lags + 1)
    ]
    return terms[0] + 2 * sum(terms[1:])
