import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.base import CLOSE, HIGH
from models.trading import with_ranges
from models.windows import future_closes, lookback_windows, target_stop
from tests.fakes import random_walk


@given(n_sessions=st.integers(12, 40), lookback=st.integers(1, 10), data=st.data())
def test_windows_equal_those_of_a_naive_loop(n_sessions: int, lookback: int, data: st.DataObject) -> None:
    bars = random_walk(n_sessions)
    origins = np.array(data.draw(st.lists(st.integers(lookback - 1, n_sessions - 1), min_size=1)))

    windows = lookback_windows(bars, origins, lookback)

    naive = np.stack([bars[origin - lookback + 1 : origin + 1] for origin in origins])
    np.testing.assert_array_equal(windows, naive)


@given(lookback=st.integers(2, 10), seed=st.integers(0, 1000), gaps=st.sets(st.integers(0, 39), max_size=6))
def test_a_bar_without_a_range_or_an_open_gets_them_in_every_window_that_has_it(
    lookback: int, seed: int, gaps: set[int]
) -> None:
    bars = random_walk(40, seed=seed)
    for gap in gaps:
        bars[gap, : CLOSE if gap % 2 else HIGH] = bars[gap, CLOSE] if gap % 2 else np.nan
    origins = np.arange(20, 30)

    windows = lookback_windows(bars, origins, lookback)

    naive = np.stack([bars[origin - lookback + 1 : origin + 1] for origin in origins])
    np.testing.assert_array_equal(windows, with_ranges(naive))


@given(n_sessions=st.integers(5, 40), horizon=st.integers(1, 10), stop=st.integers(1, 50), data=st.data())
def test_targets_equal_those_of_a_naive_loop(n_sessions: int, horizon: int, stop: int, data: st.DataObject) -> None:
    bars = random_walk(n_sessions)
    origins = np.array(data.draw(st.lists(st.integers(0, n_sessions - 1), min_size=1)))

    closes = future_closes(bars, origins, horizon, stop)

    for row, origin in enumerate(origins):
        for step in range(1, horizon + 1):
            seen = origin + step < min(stop, n_sessions)
            expected = bars[origin + step, CLOSE] if seen else np.nan
            np.testing.assert_equal(closes[row, step - 1], expected)


def test_the_targets_of_a_block_end_where_those_of_the_next_begin() -> None:
    block, following = range(10, 20), range(20, 30)

    first_target_of_following = following.start + 1

    assert target_stop(block) == first_target_of_following


@pytest.mark.parametrize("origin", [1, 10])
def test_an_origin_without_a_full_window_is_our_own_mistake(origin: int) -> None:
    with pytest.raises(AssertionError, match="origin out of range"):
        lookback_windows(random_walk(10), np.array([origin]), lookback=3)


def test_no_origins_have_no_windows() -> None:
    assert lookback_windows(random_walk(10), np.array([], dtype=np.intp), lookback=3).shape == (0, 3, 5)
