"""Scores against scikit-learn and naive loops, and on series that are signed, short, constant or not yet known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from models.base import QUANTILE_GRID
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


LEVELS = np.array([0.1, 0.5, 0.9])
signed = arrays(float, st.integers(1, 8), elements=st.floats(-1e3, 1e3))

SCORES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mae": accuracy.mae,
    "mape": accuracy.mape,
    "rmse": accuracy.rmse,
    "r2": accuracy.r2,
    "mase": lambda actual, forecast: accuracy.mase(actual, forecast, np.array([1.0, 2.0])),
    "hit_rate": lambda actual, forecast: accuracy.hit_rate(actual, forecast, np.full_like(actual, 4.0)),
    "coverage": lambda actual, forecast: accuracy.coverage(actual, forecast - 1, forecast + 1),
    "width": lambda actual, forecast: accuracy.width(actual, forecast - 1, forecast + actual**0),
    "interval_score": lambda actual, forecast: accuracy.interval_score(actual, forecast - 1, forecast + 1, 0.8),
    "pinball_loss": lambda actual, forecast: accuracy.pinball_loss(actual, forecast[..., None] + LEVELS, LEVELS),
    "crps": lambda actual, forecast: accuracy.mean(accuracy.crps_losses(actual, forecast[..., None] + LEVELS, LEVELS)),
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(6,), (3, 2)])
def test_what_is_not_known_is_left_out(name: str, shape: tuple[int, ...]) -> None:
    actual = np.array([1.0, np.nan, 5.0, 7.0, np.nan, 6.0])
    forecast = np.array([2.0, 3.0, 4.5, 6.0, 9.0, 3.0])
    known = ~np.isnan(actual)

    score = SCORES[name](actual.reshape(shape), forecast.reshape(shape))

    assert score == pytest.approx(SCORES[name](actual[known], forecast[known]))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("actual", [np.array([]), np.full(3, np.nan)])
def test_a_score_of_nothing_known_is_not_a_number(name: str, actual: np.ndarray) -> None:
    assert math.isnan(SCORES[name](actual, np.ones(actual.size)))


@pytest.mark.parametrize(
    "score",
    [
        accuracy.r2(np.full(3, 5.0), np.array([5.0, 5.0, 6.0])),
        accuracy.skill(0.1, 0.0),
        accuracy.hit_rate(np.array([2.0, 1.0, 3.0]), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])),
        *[accuracy.mase(np.array([7.0]), np.array([8.0]), np.array(train)) for train in ([7.0] * 5, [7.0], [])],
    ],
    ids=["r2 of constant prices", "skill against no error", "direction of persistence", *["mase of still prices"] * 3],
)
def test_a_score_that_is_undefined_is_not_a_number(score: float) -> None:
    assert math.isnan(score)


def test_mase_of_one_step_persistence_on_its_own_train_part_is_one() -> None:
    train = np.array([1.0, 4.0, 2.0, 3.0])

    assert accuracy.mase(train[1:], train[:-1], train) == 1.0


@given(actual=prices, forecast=prices, train=prices, k=st.floats(1e-3, 1e3))
def test_mase_has_no_unit(actual: np.ndarray, forecast: np.ndarray, train: np.ndarray, k: float) -> None:
    scaled = accuracy.mase(k * actual, k * forecast, k * train)

    assert scaled == pytest.approx(accuracy.mase(actual, forecast, train), rel=1e-6)


def test_a_price_that_did_not_move_is_neither_hit_nor_missed() -> None:
    still = 10.0 * (1 - 1e-12)  # a forecast that went through its logarithm
    rate = accuracy.hit_rate(np.array([10.0, 12.0, 12.0, 9.0]), np.array([11.0, 11.0, still, 9.9]), np.full(4, 10.0))

    assert rate == 1.0


@given(actual=prices, forecast=prices, last=prices)
def test_the_opposite_forecast_hits_what_was_missed(actual: np.ndarray, forecast: np.ndarray, last: np.ndarray) -> None:
    rate = accuracy.hit_rate(actual, forecast, last)

    opposite = accuracy.hit_rate(actual, 2 * last - forecast, last)
    assert (math.isnan(rate) and math.isnan(opposite)) or rate + opposite == pytest.approx(1.0)


def test_a_difference_by_rounding_is_no_skill() -> None:
    assert accuracy.skill(1 + 1e-12, 1.0) == 0.0
    assert accuracy.skill(1.001, 1.0) == pytest.approx(-0.001)


def test_an_actual_on_a_bound_is_inside() -> None:
    assert accuracy.coverage(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0]), np.full(3, 2.0)) == 2 / 3


def test_an_interval_that_contains_the_actual_scores_its_width() -> None:
    inside = np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.array([2.5, 4.0])

    assert accuracy.interval_score(*inside, level=0.8) == accuracy.width(*inside) == 2.5


@given(actual=signed, level=st.floats(0.01, 0.99), data=st.data())
def test_the_interval_score_is_the_pinball_loss_of_its_bounds(
    actual: np.ndarray, level: float, data: st.DataObject
) -> None:
    bounds = data.draw(arrays(float, (actual.size, 2), elements=st.floats(-1e3, 1e3)))
    lower, upper = np.sort(bounds, axis=1).T
    alpha = 1 - level

    score = accuracy.interval_score(actual, lower, upper, level)

    both = accuracy.pinball_loss(actual, np.column_stack([lower, upper]), np.array([alpha / 2, 1 - alpha / 2]))
    assert score == pytest.approx(both * 4 / alpha, rel=1e-6, abs=1e-9)


@given(actual=signed, data=st.data())
def test_pinball_loss_equals_that_of_scikit_learn(actual: np.ndarray, data: st.DataObject) -> None:
    quantiles = data.draw(arrays(float, (actual.size, 3), elements=st.floats(-1e3, 1e3)))

    loss = accuracy.pinball_loss(actual, quantiles, LEVELS)

    each = [metrics.mean_pinball_loss(actual, quantiles[:, k], alpha=level) for k, level in enumerate(LEVELS)]
    assert loss == pytest.approx(np.mean(each))


@given(actual=signed, data=st.data())
def test_crps_equals_a_naive_loop_and_is_never_negative(actual: np.ndarray, data: st.DataObject) -> None:
    quantiles = np.sort(data.draw(arrays(float, (actual.size, 3), elements=st.floats(-1e3, 1e3))), axis=1)

    losses = accuracy.crps_losses(actual, quantiles, LEVELS)

    for row, value in enumerate(actual):
        errors = [value - quantile for quantile in quantiles[row]]
        pinballs = [tau * e if e > 0 else (tau - 1) * e for tau, e in zip(LEVELS, errors, strict=True)]
        assert losses[row] == pytest.approx(2 * sum(pinballs) / 3)
    assert (losses >= 0).all()


def test_crps_of_a_point_forecast_is_its_absolute_error() -> None:
    losses = accuracy.point_crps_losses(np.array([[-0.02, 0.03]]), np.zeros((1, 2)))

    np.testing.assert_allclose(losses, [[0.02, 0.03]])


def test_crps_of_a_normal_forecast_is_the_one_in_the_books() -> None:
    from scipy import stats

    levels = np.arange(0.5, 1000) / 1000

    (score,) = accuracy.crps_losses(np.array([0.7]), stats.norm.ppf(levels)[None], levels)

    exact = 0.7 * (2 * stats.norm.cdf(0.7) - 1) + 2 * stats.norm.pdf(0.7) - 1 / np.sqrt(np.pi)
    assert score == pytest.approx(exact, rel=2e-3)


def test_the_levels_of_crps_are_among_those_of_every_forecast() -> None:
    assert set(accuracy.CRPS_LEVELS) <= set(QUANTILE_GRID)


@given(k=st.floats(1e-3, 1e3))
def test_crps_of_log_returns_has_no_currency(k: float) -> None:
    actual, quantiles = np.array([[10.0, np.nan]]), np.array([[[9.0, 10.0, 12.0], [8.0, 10.0, 14.0]]])

    losses = accuracy.log_return_crps_losses(k * actual, k * quantiles, LEVELS)

    close = 9.5
    expected = accuracy.crps_losses(np.log(actual / close), np.log(quantiles / close), LEVELS)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
