"""Whether returns depend on past ones: autocorrelation of returns and of their squares, unit-root tests."""

import math
import warnings
from typing import Any, Literal

import numpy as np

from schemas.analysis import Correlogram, Dependence, LjungBox, Stationarity, UnitRootTest
from services.analysis.values import Values, all_finite, finite, p_text

MAX_LAG = 40
LJUNG_BOX_LAGS = (10, 20)
ALPHA = 0.05
NORMAL_97_5 = 1.959963984540054
KPSS_TABLE = (0.01, 0.1)  # the smallest and the largest p-value of the published table


def dependence(returns: Values) -> Dependence:
    plain, squared = correlogram(returns), correlogram((returns / returns.std()) ** 2)
    return Dependence(returns=plain, squared_returns=squared, interpretation=_interpret_dependence(plain, squared))


def stationarity(closes: Values, returns: Values) -> Stationarity:
    """ADF and KPSS on log closes, around a trend, and on log returns, around a constant."""
    import scipy.linalg  # noqa: F401 - only libraries that are loaded can be limited
    from threadpoolctl import threadpool_limits

    log_closes = np.log(closes)
    with threadpool_limits(1):  # regressions this small take up to 20 times the CPU with a second thread
        tests = (
            adf(log_closes, "log_closes", "ct"),
            kpss(log_closes, "log_closes", "ct"),
            adf(returns, "log_returns", "c"),
            kpss(returns, "log_returns", "c"),
        )
    return Stationarity(tests=tests, interpretation=_interpret_stationarity(*(test.p_value for test in tests)))


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
    """Bounds of the autocorrelations at lags 1 to 40 if volatility changes but nothing is correlated, shape (40,).

    1.96 · √(Σ x_t² x_{t−k}²) / Σ x_t² with x the centred values: where large moves
    follow large ones, sample autocorrelations scatter far wider than 1/√n.

    Source: Taylor (1984), Applied Statistics; Lo and MacKinlay (1988), Review of Financial Studies.
    """
    squares = (values - values.mean()) ** 2
    crossed = np.array([squares[lag:] @ squares[:-lag] for lag in range(1, MAX_LAG + 1)])
    bounds: Values = NORMAL_97_5 * np.sqrt(crossed) / squares.sum()
    return bounds


def adf(values: Values, of: Literal["log_closes", "log_returns"], regression: Literal["c", "ct"]) -> UnitRootTest:
    """Augmented Dickey–Fuller, lags chosen by AIC. Hypothesis: a unit root, as a random walk has.

    Null where the lagged moves are collinear, as for a price that alternates between two values.
    """
    from statsmodels.tsa.stattools import adfuller

    _ignore_known_warnings()
    with np.errstate(all="ignore"):
        lags = lags_by_aic(values, regression)
        found = adfuller(values, lags, regression, autolag=None, store=True, result_object=True)
    fit = found.resstore.resols
    defined = fit.model.rank == fit.model.exog.shape[1]
    return _test("adf", of, regression, found, note=None, defined=defined)


def lags_by_aic(values: Values, regression: Literal["c", "ct"]) -> int:
    """The lagged moves with which ``adfuller`` regresses by default, in a fiftieth of the time or less.

    The regressions are nested: one decomposition has the residuals of them all.
    """
    n_trend = len(regression)
    most = min(values.size // 2 - n_trend - 1, math.ceil(12 * (values.size / 100) ** 0.25))  # Schwert (1989)
    moves = np.diff(values)
    target = moves[most:]
    trend = np.vander(np.arange(1.0, target.size + 1), n_trend, increasing=True)
    lagged = [moves[most - lag : moves.size - lag] for lag in range(1, most + 1)]
    columns = np.column_stack([trend, values[most:-1], *lagged, target])
    explained = np.linalg.qr(columns).R[:, -1]  # the target, by what each regressor adds
    residuals = np.cumsum(explained[::-1] ** 2)[::-1]  # by the number of regressors
    n_regressors = np.arange(n_trend + 1, n_trend + 2 + most)
    return int(np.argmin(target.size * np.log(residuals[n_regressors]) + 2 * n_regressors))


def kpss(values: Values, of: Literal["log_closes", "log_returns"], regression: Literal["c", "ct"]) -> UnitRootTest:
    """Kwiatkowski–Phillips–Schmidt–Shin, lags chosen by the data. Hypothesis: stationary, around a trend with ``ct``.

    The p-value is read from a table that covers 0.01 to 0.1. Beyond its ends, ``p_value_note`` says on which side.
    """
    from statsmodels.tsa import stattools

    _ignore_known_warnings()
    with np.errstate(all="ignore"):
        found = stattools.kpss(values, regression=regression, nlags="auto", result_object=True)
    notes = dict(zip(KPSS_TABLE, ("at most 0.01", "at least 0.1"), strict=True))
    return _test("kpss", of, regression, found, note=notes.get(float(found.pvalue)))


def _ignore_known_warnings() -> None:
    """Silence statsmodels about the end of KPSS's table and collinear moves: the answer shows both.

    Permanently and by category, because ``warnings.catch_warnings`` changes the
    filters of the whole process and is not safe with threads.
    """
    from statsmodels.tools.sm_exceptions import InterpolationWarning, SingularMatrixWarning

    for category in (InterpolationWarning, SingularMatrixWarning):
        ignored = ("ignore", None, category, None, 0)
        if ignored not in warnings.filters[:5]:  # inserting it again would remove it for an instant
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
    """Whether the values differ by more than rounding."""
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


def _interpret_dependence(returns: Correlogram, squares: Correlogram) -> str:
    pairs = [
        (abs(value), bound)
        for value, bound in zip(returns.acf, returns.acf_robust_bound, strict=True)
        if value is not None and bound is not None
    ]
    if not pairs:
        return "The autocorrelation of the returns could not be measured."
    beyond, first = sum(value > bound for value, bound in pairs), pairs[0][0]
    found = (
        f"{beyond} of {len(pairs)} autocorrelations of the returns exceed the bounds that allow for changing "
        f"volatility (about {len(pairs) * ALPHA:.0f} would by chance); the one at lag 1 explains {first**2:.2%} of the "
        "next return's variance."
    )
    meaning = (
        " Past returns hardly predict the direction of the next one, so the no-change forecast is hard to beat."
        if first**2 < 0.01
        else " That is unusually high for daily prices; thin trading and wrong prices can cause it. Backtest a model "
        "to see whether it beats the no-change forecast."
    )
    return found + meaning + _interpret_squares(squares)


def _interpret_squares(squares: Correlogram) -> str:
    p_value = squares.ljung_box[-1].p_value
    if p_value is None:
        return ""
    if p_value >= ALPHA:
        return " The size of the moves is not autocorrelated either, so the past hardly predicts volatility."
    return (
        f" The squared returns are autocorrelated (Ljung–Box at {squares.ljung_box[-1].lags} lags, {p_text(p_value)}): "
        "large moves follow large ones, so volatility can be forecast even where the price cannot."
    )


def _interpret_stationarity(
    adf_closes: float | None, kpss_closes: float | None, adf_returns: float | None, kpss_returns: float | None
) -> str:
    return (
        f"Log closes {_classify(adf_closes, kpss_closes)}. Log returns {_classify(adf_returns, kpss_returns)}. "
        "A random walk has a unit root in its log closes and stationary returns, which is why models learn returns."
    )


def _classify(adf_p: float | None, kpss_p: float | None) -> str:
    """Combine ADF and KPSS: they have opposite hypotheses, so only both together are conclusive."""
    if adf_p is None or kpss_p is None:
        return "could not be tested"
    if adf_p >= ALPHA and kpss_p < ALPHA:
        return "behave like a random walk: ADF does not reject a unit root, KPSS rejects stationarity"
    if adf_p < ALPHA and kpss_p >= ALPHA:
        return "are stationary by both tests: ADF rejects a unit root, KPSS does not reject stationarity"
    if adf_p < ALPHA:
        return (
            "are neither a random walk nor stationary: both tests reject their hypothesis, by chance or because of "
            "breaks or changing volatility"
        )
    return "are undecided: neither test rejects its hypothesis"
