"""Whether returns depend on past ones: autocorrelation of returns and of their squares, unit-root tests."""

import warnings
from typing import Any, Literal

import numpy as np

from schemas.analysis import Correlogram, Dependence, LjungBox, Stationarity, UnitRootTest
from services.analysis.values import Values, all_finite, finite, p_text

MAX_LAG = 40
LJUNG_BOX_LAGS = (10, 20)
ALPHA = 0.05
NORMAL_97_5 = 1.959963984540054
KPSS_TABLE = (0.01, 0.1)  # p-values beyond which the published table does not go


def dependence(returns: Values) -> Dependence:
    """Correlograms of the returns and of their squares, and what they mean for a forecast."""
    plain, squared = correlogram(returns), correlogram((returns / returns.std()) ** 2)
    return Dependence(returns=plain, squared_returns=squared, interpretation=_reading_of_dependence(plain, squared))


def stationarity(closes: Values, returns: Values) -> Stationarity:
    """ADF and KPSS on log closes, around a trend, and on log returns, around a constant."""
    log_closes = np.log(closes)
    tests = (
        adf(log_closes, "log_closes", "ct"),
        kpss(log_closes, "log_closes", "ct"),
        adf(returns, "log_returns", "c"),
        kpss(returns, "log_returns", "c"),
    )
    return Stationarity(tests=tests, interpretation=_reading_of_stationarity(*(test.p_value for test in tests)))


def correlogram(values: Values) -> Correlogram:
    """ACF and PACF at lags 1 to 40 with their bounds, and Ljung–Box; null throughout where the values never vary."""
    from statsmodels.stats.diagnostic import acorr_ljungbox
    from statsmodels.tsa.stattools import acf, pacf

    lags = tuple(range(1, MAX_LAG + 1))
    if not _varies(values):
        return _empty_correlogram(lags, values.size)
    with np.errstate(all="ignore"):
        full = acf(values, nlags=MAX_LAG, alpha=ALPHA, fft=True, result_object=True)
        partial = pacf(values, nlags=MAX_LAG, alpha=ALPHA, method="ldb")
        box = acorr_ljungbox(values, lags=list(LJUNG_BOX_LAGS))
    return Correlogram(
        lags=lags,
        acf=all_finite(full.acf[1:]),
        acf_bound=all_finite(full.confint[1:, 1] - full.acf[1:]),
        acf_robust_bound=all_finite(robust_bound(values)),
        pacf=all_finite(partial.pacf[1:]),
        pacf_bound=NORMAL_97_5 / values.size**0.5,
        ljung_box=tuple(
            LjungBox(lags=lag, statistic=finite(row.lb_stat), p_value=finite(row.lb_pvalue))
            for lag, row in zip(LJUNG_BOX_LAGS, box.itertuples(), strict=True)
        ),
    )


def robust_bound(values: Values) -> Values:
    """Bound of each autocorrelation at lags 1 to 40 under no correlation but changing volatility, shape (40,).

    1.96 · √(Σ x_t² x_{t−k}²) / Σ x_t² with x the centred values: where large moves
    follow large ones, autocorrelations of the signs scatter far wider than 1/√n.

    Source: Taylor (1984), Applied Statistics; Lo and MacKinlay (1988), Review of Financial Studies.
    """
    squares = (values - values.mean()) ** 2
    crossed = np.array([squares[lag:] @ squares[:-lag] for lag in range(1, MAX_LAG + 1)])
    bounds: Values = NORMAL_97_5 * np.sqrt(crossed) / squares.sum()
    return bounds


def adf(values: Values, of: Literal["log_closes", "log_returns"], regression: Literal["c", "ct"]) -> UnitRootTest:
    """Augmented Dickey–Fuller, lags chosen by AIC. Hypothesis: a unit root, as a random walk has.

    Null where the past moves are collinear, as those of a price that alternates between two values.
    """
    from statsmodels.tsa.stattools import adfuller

    _ignore_what_the_answer_tells()
    with np.errstate(all="ignore"):
        found = adfuller(values, regression=regression, store=True, result_object=True)
    fit = found.resstore.resols
    defined = fit.model.rank == fit.model.exog.shape[1]
    return _test("adf", of, regression, found, note=None, defined=defined)


def kpss(values: Values, of: Literal["log_closes", "log_returns"], regression: Literal["c", "ct"]) -> UnitRootTest:
    """Kwiatkowski–Phillips–Schmidt–Shin, lags chosen by the data. Hypothesis: stationary, around a trend with ``ct``.

    Its p-value is read off a table from 0.01 to 0.1; beyond, the note says on which side it lies.
    """
    from statsmodels.tsa import stattools

    _ignore_what_the_answer_tells()
    with np.errstate(all="ignore"):
        found = stattools.kpss(values, regression=regression, nlags="auto", result_object=True)
    notes = dict(zip(KPSS_TABLE, ("at most 0.01", "at least 0.1"), strict=True))
    return _test("kpss", of, regression, found, note=notes.get(float(found.pvalue)))


def _ignore_what_the_answer_tells() -> None:
    """Silence statsmodels on the end of KPSS's table, which ``p_value_note`` tells, and on collinear moves.

    For good and by category: ``warnings.catch_warnings`` restores the filters of
    the whole process and is not safe with threads.
    """
    from statsmodels.tools.sm_exceptions import InterpolationWarning, SingularMatrixWarning

    for category in (InterpolationWarning, SingularMatrixWarning):
        ignored = ("ignore", None, category, None, 0)
        if ignored not in warnings.filters[:5]:  # inserting it again would take it out for an instant
            warnings.simplefilter("ignore", category=category)


def _test(
    test: Literal["adf", "kpss"],
    of: Literal["log_closes", "log_returns"],
    regression: Literal["c", "ct"],
    found: Any,
    *,
    note: str | None,
    defined: bool = True,
) -> UnitRootTest:
    statistic = finite(found.statistic) if defined else None
    return UnitRootTest(
        test=test,
        of=of,
        regression=regression,
        lags=None if statistic is None else int(found.lags),
        statistic=statistic,
        p_value=None if statistic is None else finite(found.pvalue),
        p_value_note=None if statistic is None else note,
    )


def _varies(values: Values) -> bool:
    """Whether anything but rounding moves."""
    return float(np.ptp(values)) > 1e-12 * max(1.0, float(np.abs(values).max()))


def _empty_correlogram(lags: tuple[int, ...], n: int) -> Correlogram:
    unknown = (None,) * len(lags)
    return Correlogram(
        lags=lags,
        acf=unknown,
        acf_bound=unknown,
        acf_robust_bound=unknown,
        pacf=unknown,
        pacf_bound=NORMAL_97_5 / n**0.5,
        ljung_box=tuple(LjungBox(lags=lag, statistic=None, p_value=None) for lag in LJUNG_BOX_LAGS),
    )


def _reading_of_dependence(returns: Correlogram, squares: Correlogram) -> str:
    pairs = [
        (abs(value), bound)
        for value, bound in zip(returns.acf, returns.acf_robust_bound, strict=True)
        if value is not None and bound is not None
    ]
    if not pairs:
        return "Whether returns depend on past ones could not be measured."
    beyond, first = sum(value > bound for value, bound in pairs), pairs[0][0]
    sign = (
        f"{beyond} of {len(pairs)} autocorrelations of the returns lie beyond the bounds that allow for changing "
        f"volatility, where chance alone would put about {len(pairs) * ALPHA:.0f}; the one at lag 1 explains "
        f"{first**2:.2%} of the next return's variance."
    )
    worth = (
        " Past returns say next to nothing of the next one's direction: for the price itself, persistence "
        "(tomorrow = today) is hard to beat."
        if first**2 < 0.01
        else " That is more than daily prices usually show; thin trading and mistaken prices show like this too. "
        "See in a backtest whether a model beats persistence (tomorrow = today) with it."
    )
    return sign + worth + _reading_of_squares(squares)


def _reading_of_squares(squares: Correlogram) -> str:
    p_value = squares.ljung_box[-1].p_value
    if p_value is None:
        return ""
    if p_value >= ALPHA:
        return " The size of the moves shows no memory either, so the past says little of tomorrow's uncertainty."
    return (
        f" The squares are correlated (Ljung–Box at {squares.ljung_box[-1].lags} lags, {p_text(p_value)}): large moves "
        "follow large ones, so the width of an interval can be forecast where the price cannot."
    )


def _reading_of_stationarity(
    adf_closes: float | None, kpss_closes: float | None, adf_returns: float | None, kpss_returns: float | None
) -> str:
    return (
        f"Log closes {_verdict(adf_closes, kpss_closes)}. Log returns {_verdict(adf_returns, kpss_returns)}. "
        "A random walk has a unit root in its log closes and stationary returns: models here therefore learn returns."
    )


def _verdict(adf_p: float | None, kpss_p: float | None) -> str:
    """The two tests have opposite hypotheses; only together do they say anything firm."""
    if adf_p is None or kpss_p is None:
        return "could not be tested"
    if adf_p >= ALPHA and kpss_p < ALPHA:
        return "behave like a random walk: a unit root is not rejected by ADF, stationarity is by KPSS"
    if adf_p < ALPHA and kpss_p >= ALPHA:
        return "are stationary by both tests: ADF rejects a unit root, KPSS does not reject stationarity"
    if adf_p < ALPHA:
        found = "both tests reject their hypothesis, by chance or as breaks and changing volatility make them"
        return f"fit neither a random walk nor a stationary series: {found}"
    return "are left undecided: neither test rejects its hypothesis"
