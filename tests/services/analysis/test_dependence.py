"""Autocorrelation and unit roots equal statsmodels called directly, and naive loops."""

import warnings
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.diagnostic import acorr_ljungbox
from statsmodels.tools.sm_exceptions import InterpolationWarning
from statsmodels.tsa import stattools

from services.analysis.dependence import (
    MAX_LAG,
    adf,
    correlogram,
    dependence,
    kpss,
    lags_by_aic,
    robust_bound,
    stationarity,
)
from services.analysis.returns import log_returns
from services.prices.series import PriceSeries


def _changing_volatility(n: int, seed: int) -> np.ndarray:
    """Uncorrelated returns whose size depends on the one before (ARCH)."""
    rng = np.random.default_rng(seed)
    noise, returns = rng.normal(size=n), np.zeros(n)
    for t in range(1, n):
        returns[t] = noise[t] * np.sqrt(0.5 + 0.5 * returns[t - 1] ** 2)
    return returns


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_autocorrelation_equals_a_naive_loop(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=120)
    mean = sum(x) / 120
    denominator = sum((value - mean) ** 2 for value in x)
    naive = [
        sum((x[t] - mean) * (x[t - lag] - mean) for t in range(lag, 120)) / denominator for lag in range(1, MAX_LAG + 1)
    ]

    assert correlogram(x).acf == pytest.approx(naive, abs=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_correlogram_of_real_returns_equals_statsmodels(real: PriceSeries, power: int) -> None:
    values = log_returns(real.close) ** power

    found = correlogram(values)

    acf = stattools.acf(values, nlags=40, alpha=0.05, result_object=True)
    pacf = stattools.pacf(values, nlags=40, alpha=0.05, method="ywm")
    box = acorr_ljungbox(values, lags=[10, 20])
    assert found.acf == pytest.approx(acf.acf[1:])
    assert found.acf_bound == pytest.approx(acf.confint[1:, 1] - acf.acf[1:])
    assert found.pacf == pytest.approx(pacf.pacf[1:], abs=1e-9)
    assert found.pacf_bound == pytest.approx(pacf.confint[1, 1] - pacf.pacf[1])
    assert [one.statistic for one in found.ljung_box] == pytest.approx(box["lb_stat"].tolist())
    assert [one.p_value for one in found.ljung_box] == pytest.approx(box["lb_pvalue"].tolist())


def test_squared_returns_in_the_answer_are_the_squares_of_the_returns(real: PriceSeries) -> None:
    returns = log_returns(real.close)

    assert dependence(returns).squared_returns.acf == pytest.approx(correlogram(returns**2).acf)


def test_unit_root_tests_of_real_prices_equal_statsmodels(real: PriceSeries) -> None:
    closes, returns = np.log(real.close), log_returns(real.close)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpolationWarning)
        expected: list[Any] = [
            test(values, regression=regression, result_object=True)
            for values, regression in ((closes, "ct"), (returns, "c"))
            for test in (stattools.adfuller, stattools.kpss)
        ]

    found = stationarity(real.close, returns).tests

    assert [(one.of, one.test) for one in found] == [
        ("log_closes", "adf"), ("log_closes", "kpss"), ("log_returns", "adf"), ("log_returns", "kpss")
    ]  # fmt: skip
    assert [one.statistic for one in found] == pytest.approx([one.statistic for one in expected])
    assert [one.p_value for one in found] == pytest.approx([one.pvalue for one in expected])
    assert [one.lags for one in found] == [one.lags for one in expected]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(30, 600),
    persistence=st.sampled_from([0.0, 0.5, 1.0]),
    decimals=st.sampled_from([1, 12]),
    regression=st.sampled_from(["c", "ct"]),
)
def test_the_lags_are_those_that_statsmodels_chooses(
    seed: int, size: int, persistence: float, decimals: int, regression: Literal["c", "ct"]
) -> None:
    noise = np.random.default_rng(seed).standard_t(4, size=size)
    values = np.zeros(size)
    for t in range(1, size):
        values[t] = persistence * values[t - 1] + noise[t] + 0.4 * noise[t - 1]
    values = values.round(decimals)

    assert lags_by_aic(values, regression) == stattools.adfuller(values, regression=regression, result_object=True).lags


def test_a_note_says_on_which_side_of_the_kpss_table_the_p_value_lies(real: PriceSeries) -> None:
    tests = stationarity(real.close, log_returns(real.close)).tests

    assert (tests[1].p_value, tests[1].p_value_note) == (0.01, "at most 0.01")
    assert (tests[3].p_value, tests[3].p_value_note) == (0.1, "at least 0.1")
    assert tests[0].p_value_note is None


def test_a_p_value_within_the_kpss_table_has_no_note() -> None:
    noise = np.random.default_rng(0).normal(size=500)

    found = kpss(noise + np.linspace(0, 0.35, 500), "log_returns", "c")

    assert found.p_value is not None
    assert 0.01 < found.p_value < 0.1
    assert found.p_value_note is None


def test_a_random_walk_is_recognised() -> None:
    closes = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, 2000)))

    interpretation = stationarity(closes, log_returns(closes)).interpretation

    assert interpretation.startswith("Log closes behave like a random walk")
    assert "Log returns are stationary by both tests" in interpretation


def test_a_price_that_returns_to_its_mean_is_called_stationary() -> None:
    closes = np.exp(np.random.default_rng(5).normal(0, 0.01, 2000))

    assert stationarity(closes, log_returns(closes)).interpretation.startswith(
        "Log closes are stationary by both tests"
    )


@pytest.mark.parametrize("period", [2, 5])
def test_moves_that_repeat_exactly_leave_the_unit_root_test_undefined(period: int) -> None:
    values = np.log(100.0 + np.arange(300) % period)

    found = adf(values, "log_closes", "c")

    assert (found.statistic, found.p_value, found.lags) == (None, None, None)


def test_values_that_never_vary_have_no_autocorrelation() -> None:
    returns = np.where(np.arange(200) % 2, 0.01, -0.01)

    found = dependence(returns)

    assert found.returns.acf[0] == pytest.approx(-1, abs=0.01)
    assert set(found.squared_returns.acf) == {None}
    assert {one.p_value for one in found.squared_returns.ljung_box} == {None}


def test_robust_bound_equals_a_naive_loop() -> None:
    x = _changing_volatility(150, seed=0)
    c = x - x.mean()

    naive = [
        1.959964 * np.sqrt(sum(c[t] ** 2 * c[t - lag] ** 2 for t in range(lag, 150))) / sum(c**2)
        for lag in range(1, MAX_LAG + 1)
    ]

    assert robust_bound(x).tolist() == pytest.approx(naive, rel=1e-6)


def test_under_changing_volatility_only_the_robust_bounds_have_the_promised_error_rate() -> None:
    plain, robust = [], []
    for seed in range(300):
        found = correlogram(_changing_volatility(1000, seed))
        first = abs(found.acf[0] or 0)
        plain.append(first > (found.acf_bound[0] or 0))
        robust.append(first > (found.acf_robust_bound[0] or 0))

    assert np.mean(plain) > 0.15
    assert np.mean(robust) == pytest.approx(0.05, abs=0.04)


def test_independent_returns_are_called_unpredictable() -> None:
    interpretation = dependence(np.random.default_rng(0).normal(0, 0.01, 2000)).interpretation

    assert "the no-change forecast is hard to beat" in interpretation
    assert "not autocorrelated either" in interpretation


def test_returns_that_follow_each_other_are_called_unusual() -> None:
    noise, returns = np.random.default_rng(0).normal(size=2000), np.zeros(2000)
    for t in range(1, 2000):
        returns[t] = 0.5 * returns[t - 1] + noise[t]

    interpretation = dependence(returns).interpretation

    assert "unusually high for daily prices" in interpretation
    assert "hard to beat" not in interpretation


def test_squares_of_real_returns_are_autocorrelated(real: PriceSeries) -> None:
    found = dependence(log_returns(real.close))

    assert (found.squared_returns.acf[0] or 0) > 2 * (found.squared_returns.acf_bound[0] or 1)
    assert "volatility can be forecast" in found.interpretation
