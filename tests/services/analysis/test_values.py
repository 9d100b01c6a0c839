import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.analysis.values import MAX_POINTS, all_finite, robust_sd, series_of, thinned


def test_nan_and_infinity_become_null() -> None:
    assert all_finite(np.array([1.0, np.nan, np.inf, -np.inf])) == (1.0, None, None, None)


@given(values=arrays(float, st.integers(1, 3000), elements=st.floats(-1, 1) | st.just(np.nan)))
def test_a_thinned_series_keeps_its_last_point_and_both_extremes(values: np.ndarray) -> None:
    rows = thinned(values)

    assert rows.size <= MAX_POINTS + 2
    assert rows[-1] == values.size - 1
    assert (np.diff(rows) > 0).all()
    if np.isfinite(values).any():
        assert np.nanmin(values[rows]) == np.nanmin(values)
        assert np.nanmax(values[rows]) == np.nanmax(values)


def test_a_short_series_keeps_every_point() -> None:
    assert thinned(np.arange(float(MAX_POINTS))).tolist() == list(range(MAX_POINTS))


def test_a_series_names_the_session_of_each_value() -> None:
    sessions = np.array(["2024-01-02", "2024-01-03"], dtype="datetime64[D]")

    series = series_of(sessions, np.array([1.0, np.nan]))

    assert [day.isoformat() for day in series.sessions] == ["2024-01-02", "2024-01-03"]
    assert series.values == (1.0, None)


def test_a_robust_sd_is_that_of_normal_values_and_ignores_jumps() -> None:
    values = np.random.default_rng(0).normal(0, 2, 100_000)
    jumping = np.append(values, np.full(1000, 1e6))

    assert robust_sd(values) == pytest.approx(2, rel=0.02)
    assert robust_sd(jumping) == pytest.approx(2, rel=0.04)


def test_where_most_values_are_equal_the_plain_sd_is_used() -> None:
    assert robust_sd(np.array([0.0, 0.0, 0.0, 4.0])) == pytest.approx(3**0.5)
