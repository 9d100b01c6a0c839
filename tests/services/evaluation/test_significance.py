"""The Diebold-Mariano test: against the t-test, a naive loop, and the share of false alarms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from services.evaluation.significance import block_p_value, diebold_mariano, p_value

N_SIMULATIONS = 1000
N_ORIGINS = 300


def _naive(loss: np.ndarray, loss_other: np.ndarray, h: int) -> float:
    """As printed in Harvey, Leybourne and Newbold, with Newey and West's weights."""
    d = [float(a - b) for a, b in zip(loss, loss_other, strict=True)]
    n, mean = len(d), sum(d) / len(d)
    long_run = 0.0
    for i in range(n):
        for j in range(n):
            if abs(i - j) < h:
                long_run += (1 - abs(i - j) / h) * (d[i] - mean) * (d[j] - mean) / n
    statistic = mean / math.sqrt(long_run / n) * math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    return float(2 * stats.t.sf(abs(statistic), n - 1))


def _overlapping(rng: np.random.Generator, n_origins: int, horizon: int) -> np.ndarray:
    """h-step sums of noise from successive origins, of variance 1."""
    noise = rng.standard_normal(n_origins + horizon - 1)
    return np.convolve(noise, np.ones(horizon), mode="valid") / math.sqrt(horizon)


def _share_rejected(horizon: int, noise: float, noise_other: float) -> float:
    """How often forecasts of overlapping returns, each with noise of its own, differ significantly at 5 %."""
    rng = np.random.default_rng(horizon)
    p_values = []
    for _ in range(N_SIMULATIONS):
        actual = _overlapping(rng, N_ORIGINS, horizon)
        forecast, other = rng.normal(0, [[noise], [noise_other]], (2, N_ORIGINS))
        p_values.append(diebold_mariano(np.abs(actual - forecast), np.abs(actual - other), horizon))
    return float(np.mean(np.array(p_values) < 0.05))


def test_three_differences_give_the_p_value_found_by_hand() -> None:
    # mean 2, variance 2/3: 2 / sqrt(2/9) = 4.243; times sqrt(3 - 1) * sqrt(3) / 3 = 2 sqrt(3); t with 2 degrees
    found = diebold_mariano(np.array([1.0, 2.0, 3.0]), np.zeros(3), horizon=1)

    assert found == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(2 + 12))


@given(difference=arrays(float, 12, elements=st.floats(-10, 10), unique=True))
def test_one_step_ahead_it_is_the_paired_t_test(difference: np.ndarray) -> None:
    found = diebold_mariano(difference, np.zeros(12), horizon=1)

    assert found == pytest.approx(stats.ttest_1samp(difference, 0.0).pvalue, abs=1e-9)


@given(
    losses=arrays(float, (2, 15), elements=st.floats(0, 10).map(lambda x: round(x, 3)), unique=True),
    horizon=st.integers(1, 10),
)
def test_further_ahead_it_equals_a_naive_loop(losses: np.ndarray, horizon: int) -> None:
    found = diebold_mariano(losses[0], losses[1], horizon)

    assert found == pytest.approx(_naive(losses[0], losses[1], horizon), abs=1e-6)
    assert found == pytest.approx(diebold_mariano(losses[1], losses[0], horizon))


@pytest.mark.parametrize(
    ("losses", "others", "horizon"),
    [
        *[(same, same.copy(), 1) for same in (np.arange(5.0), np.zeros(5), np.array([]), np.full(5, np.nan))],
        (np.array([1.0, 2.0, 4.0]), np.zeros(3), 3),
    ],
)
def test_the_same_or_too_few_losses_say_nothing(losses: np.ndarray, others: np.ndarray, horizon: int) -> None:
    assert math.isnan(diebold_mariano(losses, others, horizon))


def test_the_same_advantage_every_time_is_no_chance() -> None:
    assert diebold_mariano(np.full(10, 3.0), np.full(10, 2.0), horizon=2) == 0.0


def test_losses_not_known_are_left_out() -> None:
    loss, other = np.array([1.0, 2.0, 4.0, np.nan, 5.0]), np.array([0.5, 2.5, 3.0, 1.0, np.nan])

    assert diebold_mariano(loss, other, 1) == diebold_mariano(loss[:3], other[:3], 1)


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_equally_good_forecasts_are_significant_as_seldom_as_the_level_says(horizon: int) -> None:
    assert _share_rejected(horizon, noise=0.3, noise_other=0.3) == pytest.approx(0.05, abs=0.025)


@pytest.mark.parametrize("horizon", [1, 5, 20])
def test_a_better_forecast_is_recognised(horizon: int) -> None:
    assert _share_rejected(horizon, noise=0.3, noise_other=0.7) > 0.9


def test_differences_as_correlated_as_can_be_raise_twice_as_many_false_alarms() -> None:
    rng = np.random.default_rng(0)
    same = np.zeros(N_ORIGINS)

    p_values = [diebold_mariano(_overlapping(rng, N_ORIGINS, 10), same, 10) for _ in range(N_SIMULATIONS)]

    assert 0.05 < np.mean(np.array(p_values) < 0.05) < 0.15


def test_one_origin_more_than_the_horizon_is_enough() -> None:
    assert 0 < diebold_mariano(np.array([1.0, 2.0, 4.0]), np.zeros(3), horizon=2) < 1


@pytest.mark.parametrize(("overlap", "fewest"), [(1, 4), (6, 14)])
def test_the_fewest_origins_with_a_p_value_are_twice_the_overlap_and_two(overlap: int, fewest: int) -> None:
    loss = np.random.default_rng(0).normal(size=(fewest, 1))

    assert p_value(loss, np.zeros_like(loss), overlap) is not None
    assert p_value(loss[1:], np.zeros_like(loss[1:]), overlap) is None


def test_an_origin_counts_once_with_the_mean_of_its_steps_if_all_are_known() -> None:
    loss = np.random.default_rng(0).normal(size=(30, 2))
    loss[7, 1] = np.nan

    found = p_value(loss, np.ones_like(loss), overlap=2)

    assert found == pytest.approx(diebold_mariano(loss.mean(axis=1), np.ones(30), horizon=2), rel=1e-9)


def test_three_blocks_give_the_p_value_found_by_hand() -> None:
    # means -1, -2, -3, their deviation 1: t = -2 sqrt(3) with 2 degrees, for which the distribution has a closed form
    difference = -np.repeat([1.0, 2.0, 3.0], 20)

    assert block_p_value(difference) == pytest.approx(0.5 - math.sqrt(3) / math.sqrt(2 + 12))
    assert block_p_value(-difference) == pytest.approx(0.5 + math.sqrt(3) / math.sqrt(2 + 12))


def test_a_long_history_is_cut_into_20_blocks() -> None:
    means = np.random.default_rng(0).normal(0.2, 1, 20)
    within = np.resize([1.0, -1.0], 600)  # is zero on average in every block

    found = block_p_value(np.repeat(means, 30) + within)

    assert found == pytest.approx(stats.ttest_1samp(means, 0.0, alternative="less").pvalue)


@pytest.mark.parametrize(("difference", "expected"), [(-1.0, 0.0), (1.0, 1.0), (0.0, None)])
def test_the_same_difference_in_every_block_is_no_chance(difference: float, expected: float | None) -> None:
    assert block_p_value(np.full(80, difference)) == expected


def test_losses_that_differ_by_rounding_have_no_p_value() -> None:
    loss = np.abs(np.random.default_rng(0).normal(1, 0.2, (200, 1)))
    rounded = loss + 1e-13 * np.linspace(0.9, 1.1, 200)[:, None]  # a tiny difference, always to one side

    assert p_value(rounded, loss, overlap=1) is None
    assert p_value(loss + 1e6 * (rounded - loss), loss, overlap=1) == pytest.approx(0, abs=1e-9)
