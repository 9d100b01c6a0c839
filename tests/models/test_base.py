"""Quantile forecasts as values."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.base import QUANTILE_GRID, QuantileForecast

LEVELS = np.array([0.1, 0.5, 0.9])


def forecast(*steps: tuple[float, float, float]) -> QuantileForecast:
    return QuantileForecast(LEVELS, np.array([steps], dtype=float))


def test_the_grid_is_ascending_and_symmetric() -> None:
    grid = np.array(QUANTILE_GRID)

    assert (np.diff(grid) > 0).all()
    np.testing.assert_allclose(grid + grid[::-1], 1.0)


def test_a_level_between_two_is_interpolated() -> None:
    between = forecast((10.0, 20.0, 30.0)).at(np.array([0.3]))

    np.testing.assert_allclose(between, [[[15.0]]])


def test_levels_beyond_the_outermost_get_the_outermost_price() -> None:
    beyond = forecast((10.0, 20.0, 30.0)).at(np.array([0.01, 0.99]))

    np.testing.assert_allclose(beyond, [[[10.0, 30.0]]])


def test_the_point_forecast_is_the_median() -> None:
    median = forecast((10.0, 20.0, 30.0)).median

    np.testing.assert_allclose(median, [[20.0]])


@given(
    prices=arrays(float, (2, 3, 3), elements=st.floats(1e-6, 1e6)),
    levels=st.lists(st.floats(0, 1), min_size=2, max_size=9),
)
def test_interpolated_quantiles_never_cross(prices: np.ndarray, levels: list[float]) -> None:
    ordered = QuantileForecast(LEVELS, np.sort(prices, axis=-1))

    interpolated = ordered.at(np.sort(levels))

    assert (np.diff(interpolated, axis=-1) >= -1e-9 * interpolated.max()).all()
