"""Means by weekday and month: their error bars, and the false-positive rate of the test."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.analysis.returns import log_returns
from services.analysis.seasonality import MIN_GROUP, hac_lags, seasonality, seasons
from services.prices.series import PriceSeries
from tests.fakes import new_york_sessions

NAMES = ("a", "b", "c")


def _naive_sd_of_mean(keys: np.ndarray, returns: np.ndarray, key: int, lags: int, n_groups: int) -> float:
    """By the formula of Newey and West for a regression on dummies, with the correction n / (n − k)."""
    mean, n = returns[keys == key].mean(), returns.size
    scores = [(x - mean) if group == key else 0.0 for group, x in zip(keys, returns, strict=True)]
    total = 0.0
    for i in range(n):
        for j in range(max(0, i - lags), min(n, i + lags + 1)):
            total += (1 - abs(i - j) / (lags + 1)) * scores[i] * scores[j]
    return float(np.sqrt(total * n / (n - n_groups))) / int((keys == key).sum())


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_error_bars_equal_a_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys, returns = rng.integers(0, 3, 120), rng.normal(0, 0.01, 120)

    found = seasonality(keys, returns, NAMES, "letters")

    for key, group in enumerate(found.groups):
        half = ((group.upper or 0) - (group.lower or 0)) / 2
        assert group.mean_log_return == pytest.approx(returns[keys == key].mean())
        # Student's t with 117 degrees of freedom
        assert half == pytest.approx(1.980448 * _naive_sd_of_mean(keys, returns, key, hac_lags(120), 3), rel=1e-4)


def test_sessions_are_grouped_by_the_day_on_which_the_return_ends() -> None:
    sessions = new_york_sessions(500)
    weekdays = (sessions[1:].astype("datetime64[D]").astype(int) + 3) % 7
    returns = np.where(weekdays == 4, 0.01, 0.0) + np.random.default_rng(0).normal(0, 1e-4, 499)

    found = seasons(sessions, returns).weekday

    assert [group.name for group in found.groups] == ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
    assert [round(group.mean_log_return, 3) for group in found.groups] == [0, 0, 0, 0, 0.01]
    assert sum(group.n for group in found.groups) == 499


def test_months_follow_the_year(real: PriceSeries) -> None:
    found = seasons(real.sessions, log_returns(real.close)).month
    days = real.sessions[1:].tolist()

    assert [group.name for group in found.groups][:2] == ["January", "February"]
    assert [group.n for group in found.groups] == [sum(day.month == m for day in days) for m in range(1, 13)]


def test_means_that_differ_are_found_to_differ() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 3, 1000)

    found = seasonality(keys, rng.normal(0, 0.01, 1000) + 0.005 * (keys == 1), NAMES, "letters")

    assert found.p_value is not None
    assert found.p_value < 1e-6
    assert "differ significantly" in found.interpretation


def test_under_changing_volatility_equal_means_are_rejected_at_the_promised_rate() -> None:
    rng = np.random.default_rng(7)
    p_values = []
    for _ in range(400):
        keys = np.arange(600) % 3
        spread = 0.005 + 0.02 * (np.arange(600) // 100 % 2)
        p_values.append(seasonality(keys, rng.normal(0, spread), NAMES, "letters").p_value or 0.0)

    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.035)


def test_a_group_of_few_sessions_has_no_error_bar_and_is_not_tested() -> None:
    rng = np.random.default_rng(0)
    keys = np.where(np.arange(200) < MIN_GROUP - 1, 2, np.arange(200) % 2)
    returns = rng.normal(0, 0.01, 200) + 10.0 * (keys == 2)

    found = seasonality(keys, returns, NAMES, "letters")

    assert (found.groups[2].n, found.groups[2].lower, found.groups[2].upper) == (MIN_GROUP - 1, None, None)
    assert found.groups[0].lower is not None
    assert found.p_value is not None
    assert found.p_value > 0.01


def test_a_single_group_is_not_tested() -> None:
    found = seasonality(np.zeros(200, dtype=int), np.random.default_rng(0).normal(size=200), NAMES, "letters")

    assert len(found.groups) == 1
    assert found.p_value is None
    assert "too few sessions" in found.interpretation


@pytest.mark.parametrize("factor", [1e-9, 1e3])
def test_significance_does_not_depend_on_the_unit(factor: float) -> None:
    rng = np.random.default_rng(3)
    keys, returns = rng.integers(0, 3, 300), rng.normal(0, 0.01, 300)

    one, other = (seasonality(keys, values, NAMES, "letters") for values in (returns, returns * factor))

    assert other.p_value == pytest.approx(one.p_value)
    assert other.groups[0].upper == pytest.approx((one.groups[0].upper or 0) * factor)
