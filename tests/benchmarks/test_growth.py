import numpy as np
import pytest

from benchmarks.growth import LIMIT, Growth, growth

SIZES = (30, 60, 120, 240, 480)


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.0, 2.0])
def test_a_power_of_the_size_has_that_exponent_and_no_error(exponent: float) -> None:
    found = growth(SIZES, [3.0 * size**exponent for size in SIZES])

    assert found.exponent == pytest.approx(exponent, abs=1e-12)
    assert found.error == pytest.approx(0.0, abs=1e-12)


def test_the_error_is_that_of_a_regression_of_logarithms() -> None:
    rng = np.random.default_rng(0)
    slopes = [growth(SIZES, (np.array(SIZES) * np.exp(rng.normal(0, 0.1, len(SIZES)))).tolist()) for _ in range(2000)]

    of_slopes = np.std([one.exponent for one in slopes])
    assert np.sqrt(np.mean([one.error**2 for one in slopes])) == pytest.approx(of_slopes, rel=0.1)


@pytest.mark.parametrize(
    ("exponent", "error", "verdict"),
    [(LIMIT, 0.0, "fine"), (1.2, 0.06, "not above, within two standard errors"), (1.2, 0.04, "too fast")],
)
def test_only_an_exponent_clearly_above_the_limit_is_too_fast(exponent: float, error: float, verdict: str) -> None:
    assert Growth(exponent, error).verdict == verdict
