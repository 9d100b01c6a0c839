"""Summary statistics of closes and log returns, and the distribution of the returns against the normal one."""

from statistics import NormalDist

import numpy as np

from schemas.analysis import Distribution, Moments, Quantile, Summary, TailQuantile
from services.analysis.values import Values, finite, p_text

LEVELS = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TAIL_LEVELS = (0.001, 0.01, 0.05, 0.95, 0.99, 0.999)
FAR_SDS = 6.0  # range of the histogram; one unadjusted split would squeeze all other returns into one bar
MIN_BINS, MAX_BINS = 20, 80


def log_returns(closes: Values) -> Values:
    """ln(close at t / close at t − 1), shape (n − 1,); finite whatever the prices.

    >>> log_returns(np.array([1.0, np.e, np.e])).tolist()
    [1.0, 0.0]
    """
    return np.diff(np.log(closes))


def summary(closes: Values, returns: Values, sessions_per_year: float) -> Summary:
    return Summary(
        closes=_moments(closes),
        log_returns=_moments(returns),
        annualised_volatility=float(returns.std(ddof=1)) * sessions_per_year**0.5,
        annualised_mean_log_return=float(returns.mean()) * sessions_per_year,
        total_log_return=float(returns.sum()),
    )


def distribution(returns: Values) -> Distribution:
    from scipy import stats

    edges = _bin_edges(returns)
    counts, _ = np.histogram(returns, edges)
    normal = NormalDist(float(returns.mean()), float(returns.std(ddof=1)))
    n_far = int((np.abs(returns - normal.mean) > 3 * normal.stdev).sum())
    test = stats.jarque_bera(returns)
    skewness, excess = finite(stats.skew(returns)), finite(stats.kurtosis(returns))
    p_value = finite(test.pvalue)
    return Distribution(
        bin_edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        n_below=int((returns < edges[0]).sum()),
        n_above=int((returns > edges[-1]).sum()),
        skewness=skewness,
        excess_kurtosis=excess,
        tails=tuple(
            TailQuantile(level=level, empirical=float(np.quantile(returns, level)), normal=normal.inv_cdf(level))
            for level in TAIL_LEVELS
        ),
        n_beyond_3_sd=n_far,
        n_beyond_3_sd_if_normal=returns.size * 2 * NormalDist().cdf(-3),
        jarque_bera=finite(test.statistic),
        jarque_bera_p_value=p_value,
        interpretation=_interpretation(p_value, excess),
    )


def _moments(values: Values) -> Moments:
    scale = float(np.abs(values).max()) or 1.0  # the squares of very large prices overflow
    scaled = values / scale
    return Moments(
        n=values.size,
        mean=finite(scaled.mean() * scale),
        sd=finite(scaled.std(ddof=1) * scale),
        min=float(values.min()),
        max=float(values.max()),
        quantiles=tuple(
            Quantile(level=level, value=finite(quantile * scale))
            for level, quantile in zip(LEVELS, np.quantile(scaled, LEVELS), strict=True)
        ),
    )


def _bin_edges(returns: Values) -> Values:
    """Even bins by the rule of Freedman and Diaconis, within ``FAR_SDS`` robust sds of the median."""
    low, median, high = np.quantile(returns, [0.25, 0.5, 0.75])
    spread = (high - low) / 1.349 or returns.std()
    first = max(returns.min(), median - FAR_SDS * spread)
    last = min(returns.max(), median + FAR_SDS * spread)
    width = 2 * 1.349 * spread / returns.size ** (1 / 3)
    n_bins = int(np.clip(np.ceil((last - first) / width), MIN_BINS, MAX_BINS))
    edges: Values = np.linspace(first, last, n_bins + 1)
    return edges


def _interpretation(p_value: float | None, excess: float | None) -> str:
    if p_value is None or excess is None:
        return "Whether the returns are normal could not be tested."
    if p_value >= 0.05:
        return f"The returns could be normal (Jarque–Bera, {p_text(p_value)})."
    not_normal = f"The returns are not normal (Jarque–Bera, {p_text(p_value)})."
    if excess <= 0:
        return not_normal
    tails = "Large moves are more frequent than a normal distribution predicts; its intervals would be too narrow."
    return f"{not_normal} {tails}"
