"""Scores against scikit-learn, and on series that are signed, short or constant."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from services.evaluation import accuracy

prices = arrays(float, 20, elements=st.floats(0.01, 1e4), unique=True)


@given(actual=prices, forecast=prices)
def test_scores_equal_those_of_scikit_learn(actual: np.ndarray, forecast: np.ndarray) -> None:
    assert accuracy.mae(actual, forecast) == pytest.approx(metrics.mean_absolute_error(actual, forecast))
    assert accuracy.mape(actual, forecast) == pytest.approx(metrics.mean_absolute_percentage_error(actual, forecast))
    assert accuracy.rmse(actual, forecast) == pytest.approx(metrics.root_mean_squared_error(actual, forecast))
    assert accuracy.r2(actual, forecast) == pytest.approx(metrics.r2_score(actual, forecast))


def test_a_score_of_signed_values_is_never_negative() -> None:
    returns, forecast = np.array([-0.02, 0.01, -0.03]), np.zeros(3)

    assert min(accuracy.mae(returns, forecast), accuracy.mape(returns, forecast)) > 0


def test_r2_of_constant_prices_is_not_a_number() -> None:
    assert math.isnan(accuracy.r2(np.full(3, 5.0), np.array([5.0, 5.0, 6.0])))


def test_a_worse_forecast_than_persistence_has_negative_skill() -> None:
    assert accuracy.skill(1.5, 1.0) == -0.5


def test_skill_against_a_persistence_without_error_is_not_a_number() -> None:
    assert math.isnan(accuracy.skill(0.1, 0.0))


def test_coverage_leaves_unknown_actuals_out() -> None:
    covered = accuracy.coverage(np.array([1.0, 9.0, np.nan]), np.zeros(3), np.full(3, 2.0))

    assert covered == 0.5
