import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from services.analysis.returns import distribution, log_returns, summary
from services.prices.series import PriceSeries

MOVES = arrays(float, st.integers(100, 300), elements=st.floats(-0.2, 0.2), unique=True)


def test_doubling_and_halving_cancel_out() -> None:
    closes = np.array([1.0, 2.0, 1.0])

    found = summary(closes, log_returns(closes), sessions_per_year=4)

    assert found.log_returns.mean == pytest.approx(0)
    assert (found.log_returns.min, found.log_returns.max) == pytest.approx((-math.log(2), math.log(2)))
    assert found.closes.mean == pytest.approx(4 / 3)
    assert found.closes.sd == pytest.approx(math.sqrt(1 / 3))
    assert found.total_log_return == pytest.approx(0)


def test_a_year_of_four_sessions_doubles_the_daily_volatility() -> None:
    closes = np.exp(np.array([0.0, 1.0, 0.0, 1.0]))

    found = summary(closes, log_returns(closes), sessions_per_year=4)

    assert found.log_returns.sd is not None
    assert found.annualised_volatility == pytest.approx(2 * found.log_returns.sd)
    assert found.annualised_mean_log_return == pytest.approx(4 / 3)


@settings(deadline=None, max_examples=30)
@given(moves=MOVES, factor=st.floats(1e-6, 1e6))
def test_returns_do_not_depend_on_the_unit_of_the_price(moves: np.ndarray, factor: float) -> None:
    closes = np.exp(np.cumsum(moves))

    one, other = (summary(prices, log_returns(prices), 252) for prices in (closes, closes * factor))

    assert other.log_returns.sd == pytest.approx(one.log_returns.sd, rel=1e-6)
    assert other.log_returns.mean == pytest.approx(one.log_returns.mean, abs=1e-9)
    assert other.closes.sd == pytest.approx((one.closes.sd or 0) * factor, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(moves=MOVES)
def test_every_session_is_counted_once(moves: np.ndarray) -> None:
    found = distribution(moves)

    assert sum(found.counts) + found.n_below + found.n_above == moves.size
    assert len(found.bin_edges) == len(found.counts) + 1
    assert list(found.bin_edges) == sorted(found.bin_edges)


@settings(deadline=None, max_examples=30)
@given(moves=MOVES)
def test_shape_equals_a_naive_loop(moves: np.ndarray) -> None:
    n, mean = len(moves), sum(moves) / len(moves)
    second, third, fourth = (sum((x - mean) ** power for x in moves) / n for power in (2, 3, 4))
    skewness, excess = third / second**1.5, fourth / second**2 - 3

    found = distribution(moves)

    assert found.skewness == pytest.approx(skewness, abs=1e-6)
    assert found.excess_kurtosis == pytest.approx(excess, abs=1e-6)
    assert found.jarque_bera == pytest.approx(n / 6 * (skewness**2 + excess**2 / 4), rel=1e-6, abs=1e-6)


def test_jarque_bera_equals_scipy_on_real_prices(real: PriceSeries) -> None:
    returns = log_returns(real.close)

    found, expected = distribution(returns), stats.jarque_bera(returns)

    assert (found.jarque_bera, found.jarque_bera_p_value) == (expected.statistic, expected.pvalue)


def test_real_returns_have_fat_tails_and_the_interpretation_says_so(real: PriceSeries) -> None:
    found = distribution(log_returns(real.close))

    assert found.excess_kurtosis is not None
    assert found.excess_kurtosis > 1
    assert found.tails[0].empirical < found.tails[0].normal
    assert found.n_beyond_3_sd > 2 * found.n_beyond_3_sd_if_normal
    assert "too narrow" in found.interpretation


def test_normal_returns_could_be_normal() -> None:
    found = distribution(np.random.default_rng(1).normal(0, 0.01, 5000))

    assert found.n_beyond_3_sd_if_normal == pytest.approx(13.5, abs=0.1)
    assert all(tail.empirical == pytest.approx(tail.normal, abs=0.004) for tail in found.tails)
    assert "could be normal" in found.interpretation


@pytest.mark.parametrize(("split", "below", "above"), [(-math.log(10), 1, 0), (math.log(10), 0, 1)])
def test_one_unadjusted_split_does_not_flatten_the_histogram(split: float, below: int, above: int) -> None:
    returns = np.append(np.random.default_rng(0).normal(0, 0.01, 999), split)

    found = distribution(returns)

    assert (found.n_below, found.n_above) == (below, above)
    assert max(found.counts) < 200
