"""Mean log returns by weekday and by month, and a test of whether they differ."""

import calendar
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.analysis import Seasonality, SeasonGroup, Seasons
from services.analysis.values import Values, finite, p_text
from services.prices.series import Sessions

MIN_GROUP = 10  # groups with fewer sessions have no error bar
LEVEL = 0.95

Keys = NDArray[np.int64]


def seasons(sessions: Sessions, returns: Values) -> Seasons:
    """Seasonality by weekday and by month; a return belongs to the session on which it ends."""
    days = sessions[1:].astype("datetime64[D]")
    weekday = (days.astype(np.int64) + 3) % 7  # 1 January 1970 was a Thursday
    month = days.astype("datetime64[M]").astype(np.int64) % 12
    return Seasons(
        weekday=seasonality(weekday, returns, list(calendar.day_name), "weekdays"),
        month=seasonality(month, returns, list(calendar.month_name)[1:], "months"),
    )


def seasonality(keys: Keys, returns: Values, names: Sequence[str], plural: str) -> Seasonality:
    """The mean of each group with 95 % bounds, and a joint test that all means are equal.

    Least squares on one dummy per group, with the Newey–West covariance. The textbook error of a mean would be
    wrong, because daily returns have changing volatility and may be correlated. Groups of fewer than ``MIN_GROUP``
    sessions have no bounds and are not tested.

    Args:
        keys: the group of each return, an index into ``names``, shape (n,).
        returns: log returns in order of time, shape (n,).
        names: of the groups.
        plural: name of the groups in the interpretation.

    Source: Newey and West (1987), Econometrica; lags by the rule of Newey and West (1994).
    """
    lags = hac_lags(returns.size)
    present = [key for key in range(len(names)) if (keys == key).any()]
    tested = [key for key in present if (keys == key).sum() >= MIN_GROUP]
    bounds, p_value = _bounds_and_p_value(keys, returns, tested, lags)
    return Seasonality(
        groups=tuple(
            SeasonGroup(
                name=names[key],
                n=int((keys == key).sum()),
                mean_log_return=float(returns[keys == key].mean()),
                lower=bounds.get(key, (None, None))[0],
                upper=bounds.get(key, (None, None))[1],
            )
            for key in present
        ),
        hac_lags=lags,
        p_value=p_value,
        interpretation=_interpretation(p_value, plural),
    )


def hac_lags(n: int) -> int:
    """4 (n / 100)^(2/9), rounded down.

    >>> hac_lags(100), hac_lags(5000)
    (4, 9)
    """
    return int(4 * (n / 100) ** (2 / 9))


def _bounds_and_p_value(
    keys: Keys, returns: Values, tested: Sequence[int], lags: int
) -> tuple[dict[int, tuple[float | None, float | None]], float | None]:
    from statsmodels.regression.linear_model import OLS

    if not tested:
        return {}, None
    rows = np.isin(keys, tested)
    dummies = (keys[rows, None] == np.array(tested)).astype(float)  # (n, n_groups)
    spread = float(returns[rows].std())
    if spread == 0:
        return {}, None
    fit = OLS(returns[rows] / spread, dummies).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": True}, use_t=True
    )
    bounds = fit.conf_int(1 - LEVEL) * spread
    limits = {key: (finite(low), finite(high)) for key, (low, high) in zip(tested, bounds, strict=True)}
    return limits, _all_equal(fit)


def _all_equal(fit: Any) -> float | None:
    """p-value of the F test that each coefficient equals the first; None where the covariance has no inverse."""
    n_groups = fit.params.size
    contrasts = np.column_stack([-np.ones(n_groups - 1), np.eye(n_groups - 1)])
    covariance = contrasts @ fit.cov_params() @ contrasts.T
    if n_groups < 2 or np.linalg.matrix_rank(covariance) < n_groups - 1:
        return None
    return finite(float(fit.f_test(contrasts).pvalue))


def _interpretation(p_value: float | None, plural: str) -> str:
    if p_value is None:
        return f"There are too few sessions to test whether the mean returns of {plural} differ."
    if p_value >= 1 - LEVEL:
        return f"The mean returns of {plural} do not differ significantly ({p_text(p_value)})."
    return (
        f"The mean returns of {plural} differ significantly ({p_text(p_value)}). One test in twenty does so by chance, "
        "and a past difference need not return."
    )
