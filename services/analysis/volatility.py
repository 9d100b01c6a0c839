"""Rolling volatility from closes and from daily ranges, which need fewer sessions for the same precision."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.trading import garman_klass as session_variances
from schemas.analysis import RollingVolatility, Volatility
from services.analysis.returns import log_returns
from services.analysis.values import Values, finite, series_of
from services.prices.series import FLAT_TOLERANCE, Sessions

SHORT, LONG = 21, 63  # about a month, and a quarter

Estimator = Literal["close_to_close", "parkinson", "garman_klass"]


def volatility(sessions: Sessions, bars: Values, sessions_per_year: float) -> Volatility:
    """Every estimator over its window, annualised by √sessions_per_year.

    Args:
        sessions: shape (n,).
        bars: open, high, low, close, volume, shape (n, 5).
        sessions_per_year: sessions in a year of the ticker's exchange.
    """
    returns = log_returns(bars[:, 3])
    found: list[tuple[Estimator, int, Values]] = [
        ("close_to_close", SHORT, close_to_close(returns, SHORT)),
        ("close_to_close", LONG, close_to_close(returns, LONG)),
        ("parkinson", SHORT, parkinson(bars, SHORT)),
        ("garman_klass", SHORT, garman_klass(bars, SHORT)),
    ]
    return Volatility(
        rolling=tuple(
            _rolling(estimator, window, sessions[-values.size :], values * sessions_per_year**0.5)
            for estimator, window, values in found
        ),
        n_without_range=int((~has_range(bars)).sum()),
    )


def close_to_close(returns: Values, window: int) -> Values:
    """Standard deviation (n − 1) of each ``window`` successive log returns, shape (n_returns − window + 1,).

    >>> close_to_close(np.array([0.0, 2.0, 0.0]), window=2).round(4).tolist()
    [1.4142, 1.4142]
    """
    deviations: Values = np.lib.stride_tricks.sliding_window_view(returns, window).std(axis=1, ddof=1)
    return deviations


def parkinson(bars: Values, window: int) -> Values:
    """√(mean of ln(high / low)² / (4 ln 2)) over each window, shape (n − window + 1,).

    The mean is over the sessions with a range, see ``has_range``; NaN where no session of the window has one.

    Source: Parkinson (1980), J. Business.
    """
    high, low = np.log(bars[:, 1]), np.log(bars[:, 2])
    return _root_of_mean((high - low) ** 2 / (4 * np.log(2)), has_range(bars), window)


def garman_klass(bars: Values, window: int) -> Values:
    """√(mean of ln(high / low)² / 2 − (2 ln 2 − 1) ln(close / open)²) over each window, shape (n − window + 1,).

    The mean is over the sessions with a range and a known open; NaN where no session of the window has both. No
    square is negative, because high and low enclose open and close.

    Source: Garman and Klass (1980), J. Business, their practical estimator.
    """
    return _root_of_mean(session_variances(np.log(bars[:, :4])), has_range(bars) & ~np.isnan(bars[:, 0]), window)


def has_range(bars: Values) -> NDArray[np.bool_]:
    """Where high and low are known and differ, shape (n,).

    A bar with equal high and low did not trade, was locked at a price limit, or has only a close: its range is unknown,
    not zero.
    """
    found: NDArray[np.bool_] = bars[:, 1] > bars[:, 2] * (1 + FLAT_TOLERANCE)
    return found


def _root_of_mean(squares: Values, known: NDArray[np.bool_], window: int) -> Values:
    windows = np.lib.stride_tricks.sliding_window_view
    totals = windows(np.where(known, squares, 0.0), window).sum(axis=1)
    counts = windows(known, window).sum(axis=1)
    means = totals / np.maximum(counts, 1)
    roots: Values = np.where(counts > 0, np.sqrt(np.maximum(means, 0.0)), np.nan)
    return roots


def _rolling(estimator: Estimator, window: int, sessions: Sessions, values: Values) -> RollingVolatility:
    known = values[np.isfinite(values)]
    return RollingVolatility(
        estimator=estimator,
        window=window,
        last=finite(values[-1]),
        median=finite(np.median(known)) if known.size else None,
        series=series_of(sessions, values),
    )
