import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.analysis.volatility import close_to_close, garman_klass, parkinson, volatility
from services.prices.series import PriceSeries
from tests.fakes import new_york_sessions, random_walk


def test_parkinson_of_one_session_equals_the_value_by_hand() -> None:
    bars = np.array([[1.0, math.e, 1.0, math.e, 0.0]])

    assert parkinson(bars, 1).tolist() == pytest.approx([1 / math.sqrt(4 * math.log(2))])


def test_garman_klass_subtracts_the_move_from_open_to_close() -> None:
    straight = np.array([[1.0, math.e, 1.0, math.e, 0.0]])
    returning = np.array([[1.0, math.e, 1.0, 1.0, 0.0]])

    assert garman_klass(straight, 1).tolist() == pytest.approx([math.sqrt(0.5 - (2 * math.log(2) - 1))])
    assert garman_klass(returning, 1).tolist() == pytest.approx([math.sqrt(0.5)])


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), window=st.integers(2, 30))
def test_every_estimator_equals_a_naive_loop(seed: int, window: int) -> None:
    bars = random_walk(60, seed)
    returns = np.diff(np.log(bars[:, 3]))

    stop = [row + window for row in range(60 - window + 1)]
    squared = [[math.log(h / lo) ** 2 for _, h, lo, _, _ in bars[s - window : s]] for s in stop]
    moved = [[math.log(c / o) ** 2 for o, _, _, c, _ in bars[s - window : s]] for s in stop]

    assert close_to_close(returns, window).tolist() == pytest.approx(
        [np.std(returns[s - window : s], ddof=1) for s in range(window, 60)]
    )
    assert parkinson(bars, window).tolist() == pytest.approx(
        [math.sqrt(sum(one) / window / (4 * math.log(2))) for one in squared]
    )
    assert garman_klass(bars, window).tolist() == pytest.approx(
        [
            math.sqrt(sum(one) / window / 2 - (2 * math.log(2) - 1) * sum(other) / window)
            for one, other in zip(squared, moved, strict=True)
        ]
    )


def test_every_estimator_finds_the_volatility_of_a_walk_observed_all_day() -> None:
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.normal(0, 0.01 / math.sqrt(1000), (400, 1000)), axis=1)
    path += np.concatenate([[0.0], path[:-1, -1].cumsum()])[:, None]
    opened = np.concatenate([[0.0], path[:-1, -1]])
    bars = np.exp(
        np.column_stack(
            [opened, np.maximum(path.max(1), opened), np.minimum(path.min(1), opened), path[:, -1], np.zeros(400)]
        )
    )

    found = volatility(new_york_sessions(400), bars, sessions_per_year=252)

    assert [one.median for one in found.rolling] == pytest.approx([0.01 * math.sqrt(252)] * 4, rel=0.1)


def test_sessions_without_a_range_have_unknown_range_based_volatility() -> None:
    closes = random_walk(200)[:, 3]
    bars = np.column_stack([closes, closes, closes, closes, np.zeros(200)])

    found = volatility(new_york_sessions(200), bars, sessions_per_year=252)

    assert found.n_without_range == 200
    by_name = {(one.estimator, one.window): one for one in found.rolling}
    assert by_name["parkinson", 21].last is None
    assert by_name["garman_klass", 21].median is None
    assert set(by_name["parkinson", 21].series.values) == {None}
    assert by_name["close_to_close", 63].last is not None


def test_sessions_without_a_range_are_left_out_of_the_mean() -> None:
    bars = random_walk(30)
    ranges, moves = np.log(bars[:, 1] / bars[:, 2]), np.log(bars[:, 3] / bars[:, 0])
    bars[4, :4] = bars[4, 3]  # halted, or locked
    bars[7, 1] = np.nan
    bars[9, 2] = np.nan
    bars[12, 0] = np.nan  # unusable for Garman–Klass only
    ranges[[4, 7, 9]] = np.nan
    squares = ranges**2 / 2 - (2 * math.log(2) - 1) * moves**2
    squares[12] = np.nan

    assert parkinson(bars, 10).tolist() == pytest.approx(
        [math.sqrt(np.nanmean(ranges[s : s + 10] ** 2) / (4 * math.log(2))) for s in range(21)]
    )
    assert garman_klass(bars, 10).tolist() == pytest.approx(
        [math.sqrt(np.nanmean(squares[s : s + 10])) for s in range(21)]
    )
    found = volatility(new_york_sessions(200), np.concatenate([random_walk(170), bars]), sessions_per_year=252)
    assert found.n_without_range == 3


def test_a_window_without_any_range_is_unknown_and_its_neighbours_are_not() -> None:
    bars = random_walk(30)
    bars[10:20, :4] = bars[10:20, 3:4]

    assert np.flatnonzero(np.isnan(parkinson(bars, 10))).tolist() == [10]
    assert np.flatnonzero(np.isnan(garman_klass(bars, 10))).tolist() == [10]


def test_real_volatility_reaches_to_the_last_session(real: PriceSeries) -> None:
    found = volatility(real.sessions, real.bars, sessions_per_year=250)

    assert all(one.series.sessions[-1] == real.last_session for one in found.rolling)
    assert all(one.last == one.series.values[-1] for one in found.rolling)
    assert found.rolling[1].series.sessions[0] > found.rolling[0].series.sessions[0]
