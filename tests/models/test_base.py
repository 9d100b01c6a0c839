from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.base import CLOSE, QUANTILE_GRID, QuantileForecast, closes_only, never_narrowing, with_columns
from tests.values import assert_values

LEVELS = np.array([0.1, 0.5, 0.9])


def test_the_grid_is_ascending_and_symmetric() -> None:
    grid = np.array(QUANTILE_GRID)

    assert (np.diff(grid) > 0).all()
    np.testing.assert_allclose(grid + grid[::-1], 1.0)


@pytest.mark.parametrize(
    ("steps", "levels", "prices"),
    [
        ([(10.0, 20.0, 30.0)], [0.3], [[15.0]]),
        ([(10.0, 20.0, 30.0)], [0.01, 0.99], [[10.0, 30.0]]),
    ],
    ids=["between two levels", "beyond the outermost"],
)
def test_a_price_at_any_level_is_interpolated(
    steps: list[tuple[float, ...]], levels: list[Any], prices: list[list[float]]
) -> None:
    forecast = QuantileForecast(LEVELS, np.array([steps]))

    np.testing.assert_allclose(forecast.at(np.array(levels)), [prices])
    np.testing.assert_allclose(forecast.median, forecast.at(np.array([0.5]))[..., 0])


@given(
    prices=arrays(float, (2, 3, 3), elements=st.floats(1e-6, 1e6)),
    levels=st.lists(st.floats(0, 1), min_size=2, max_size=9),
)
def test_interpolated_quantiles_never_cross(prices: np.ndarray, levels: list[float]) -> None:
    ordered = QuantileForecast(LEVELS, np.sort(prices, axis=-1))

    interpolated = ordered.at(np.sort(levels))

    assert (np.diff(interpolated, axis=-1) >= -1e-9 * interpolated.max()).all()


@given(seed=st.integers(0, 2**16), drift=st.floats(-0.05, 0.05))
def test_no_interval_is_narrower_than_that_of_the_step_before(seed: int, drift: float) -> None:
    rng = np.random.default_rng(seed)
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    returns = np.sort(rng.normal(size=(3, 6, 5)), axis=-1) * 0.02 + drift
    forecast = QuantileForecast(levels, 100 * np.exp(returns))

    widened = never_narrowing(forecast)

    np.testing.assert_array_equal(widened.median, forecast.median)
    for low, high in ((0, 4), (1, 3)):
        width = widened.prices[..., high] - widened.prices[..., low]
        assert (np.diff(width, axis=1) >= -1e-9).all()
    assert (np.diff(widened.prices, axis=-1) >= 0).all()
    assert (widened.prices[..., :2] <= forecast.prices[..., :2] + 1e-9).all()
    assert (widened.prices[..., 3:] >= forecast.prices[..., 3:] - 1e-9).all()


@given(st.integers(0, 10_000), st.floats(-3.0, 3.0))
def test_quantiles_of_a_median_that_falls_far_stay_above_zero_and_in_order(seed: int, drift: float) -> None:
    rng = np.random.default_rng(seed)
    levels = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    returns = np.sort(rng.normal(size=(2, 6, 7)), axis=-1) + drift * np.arange(6)[:, None]
    forecast = QuantileForecast(levels, 5 * np.exp(returns))

    widened = never_narrowing(forecast)

    assert (widened.prices > 0).all()
    assert (np.diff(widened.prices, axis=-1) >= 0).all()
    assert (widened.prices[..., :3] <= forecast.prices[..., :3] * (1 + 1e-9)).all()


def test_a_quantile_that_cannot_be_widened_lies_no_higher_than_one_that_is() -> None:
    levels = np.array([0.05, 0.25, 0.5, 0.95])
    prices = np.array([[[1.0, 4.0, 10.0, 11.0], [2.0, 5.0, 7.0, 8.0]]])  # nine and six below, then seven

    widened = never_narrowing(QuantileForecast(levels, prices))

    np.testing.assert_array_equal(widened.prices, [[[1.0, 4.0, 10.0, 11.0], [1.0, 1.0, 7.0, 8.0]]])


def test_a_price_below_zero_is_not_widened_to() -> None:
    prices = np.array([[[1.0, 10.0, 11.0], [4.0, 5.0, 7.0]]])  # nine below the median, then one of five

    widened = never_narrowing(QuantileForecast(LEVELS, prices))

    np.testing.assert_array_equal(widened.prices, [[[1.0, 10.0, 11.0], [4.0, 5.0, 7.0]]])


def test_intervals_are_the_median_and_the_bounds_of_each_level() -> None:
    forecast = QuantileForecast(LEVELS, np.array([[[10.0, 20.0, 40.0]]]))

    median, lower, upper = forecast.intervals((0.4, 0.8))

    np.testing.assert_allclose(median, [[20.0]])
    np.testing.assert_allclose(lower, [[[15.0, 10.0]]])
    np.testing.assert_allclose(upper, [[[30.0, 40.0]]])


def test_absent_columns_are_unknown_and_those_beyond_are_left_out() -> None:
    bars = np.arange(10.0).reshape(2, 5)

    np.testing.assert_array_equal(with_columns(bars, 6), [[0, 1, 2, 3, 4, np.nan], [5, 6, 7, 8, 9, np.nan]])
    np.testing.assert_array_equal(with_columns(bars, 5), bars)
    np.testing.assert_array_equal(with_columns(bars, 2), [[0, 1], [5, 6]])


def test_bars_of_closes_alone_know_nothing_else() -> None:
    bars = closes_only(np.array([3.0, 4.0]))

    assert bars.shape == (2, 5)
    assert bars[:, CLOSE].tolist() == [3.0, 4.0]
    assert np.isnan(np.delete(bars, CLOSE, axis=1)).all()


def test_values_are_immutable_and_arrays_are_not_compared() -> None:
    assert_values("models")
