"""Adaptive calibration: against a naive loop, and on markets that change."""

import numpy as np
import pytest

from models.adaptive import MEMORY, RATE, TRACKED_LEVELS, AdaptiveForecaster
from models.base import Bars, Origins, QuantileForecast
from models.conformal import Calibration
from models.trading import is_untraded
from models.windows import future_closes
from tests.fakes import FixedForecaster, random_walk

HORIZON = 4


class Skewed(FixedForecaster):
    """Reaches half as far again below the median as above it."""

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        forecast = super().predict_quantiles(bars, origins)
        distance = np.log(forecast.prices / forecast.median[..., None])
        skewed = np.exp(np.where(distance < 0, 1.5, 1.0) * distance) * forecast.median[..., None]
        return QuantileForecast(forecast.quantile_levels, skewed)


def tracked(
    bars: Bars, calibration_origins: Origins, kind: type[FixedForecaster] = FixedForecaster
) -> AdaptiveForecaster:
    inner = kind(horizon=HORIZON)
    stop = int(calibration_origins[-1]) + 2
    return AdaptiveForecaster(inner, Calibration.of(inner, bars, calibration_origins, stop))


def naive_factors(forecaster: AdaptiveForecaster, bars: Bars, origin: int) -> np.ndarray:
    """Session by session, one origin, as the docstring of the module tells it."""
    factors, untraded = np.zeros((HORIZON, TRACKED_LEVELS.size)), is_untraded(bars)
    bounds: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for past in range(max(forecaster.lookback - 1, origin - MEMORY), origin):
        forecast = forecaster.static.predict_quantiles(bars, np.array([past]))
        median = np.log(forecast.median[0])[:, None]
        below = (median - np.log(forecast.at(0.5 - TRACKED_LEVELS / 2)[0])) * np.exp(factors)
        above = (np.log(forecast.at(0.5 + TRACKED_LEVELS / 2)[0]) - median) * np.exp(factors)
        bounds[past] = (
            median - np.maximum.accumulate(below, axis=1),
            median + np.maximum.accumulate(above, axis=1),
        )
        for step in range(1, HORIZON + 1):
            made = past + 1 - step
            if made in bounds and not untraded[made + 1 : past + 2].all():
                lower, upper = (side[step - 1] for side in bounds[made])
                outcome = np.log(bars[past + 1, 3])
                missed = (outcome < lower - 1e-12) | (outcome > upper + 1e-12)  # on the bound is inside
                factors[step - 1] += RATE / step * (missed - (1 - TRACKED_LEVELS))
    return factors


@pytest.mark.parametrize("origin", [1, 2, 50, 400, 900])
def test_a_replay_equals_a_naive_loop(origin: int) -> None:
    bars = random_walk(1000, seed=1, daily_volatility=0.012)
    forecaster = tracked(bars, np.arange(5, 200), Skewed)

    factors = forecaster.log_factors(bars, np.array([origin]))[0]

    np.testing.assert_allclose(factors, naive_factors(forecaster, bars, origin), atol=1e-12)


def test_sessions_without_a_trade_are_no_outcomes() -> None:
    bars = random_walk(300, seed=1, daily_volatility=0.012)
    for first, stop in ((210, 212), (230, 237)):
        bars[first:stop] = [*[bars[first - 1, 3]] * 4, 0.0]
    forecaster = tracked(bars, np.arange(5, 200))

    factors = forecaster.log_factors(bars, np.array([240]))[0]

    np.testing.assert_allclose(factors, naive_factors(forecaster, bars, 240), atol=1e-12)


def test_distances_are_multiplied_by_the_factor_of_their_level() -> None:
    bars, origin = random_walk(300, seed=1), np.array([250])
    forecaster = tracked(bars, np.arange(5, 200))
    static = forecaster.static.predict_quantiles(bars, origin)
    coverage = np.array([0.04, 0.1, 0.26, 0.8, 0.86, 0.99, 0.998])
    nearest = np.array([0.1, 0.1, 0.26, 0.8, 0.86, 0.99, 0.99])  # linear between those tracked, constant beyond

    found = forecaster.predict_quantiles(bars, origin, np.broadcast_to(TRACKED_LEVELS, (1, HORIZON, 12)))

    for side in (-1, 1):
        levels = 0.5 + side * coverage / 2
        distance, plain = (np.log(one.at(levels) / one.median[..., None]) for one in (found, static))
        np.testing.assert_allclose(distance / plain, np.broadcast_to(np.exp(nearest), plain.shape), rtol=1e-9)


def test_a_level_whose_factor_is_small_reaches_as_far_as_the_levels_below_it() -> None:
    bars, origin = random_walk(300, seed=1), np.array([250])
    forecaster = tracked(bars, np.arange(5, 200))
    factors = np.zeros((1, HORIZON, 12))
    factors[..., 9:] = -5.0  # from 90 % coverage to 95 %

    found = forecaster.predict_quantiles(bars, origin, factors).intervals((0.9, 0.95, 0.99))

    plain = forecaster.static.predict_quantiles(bars, origin).intervals((0.9,))
    for level in range(3):
        np.testing.assert_allclose(found.lower[..., level], plain.lower[..., 0], rtol=1e-9)
        np.testing.assert_allclose(found.upper[..., level], plain.upper[..., 0], rtol=1e-9)


def test_no_origins_have_no_factors() -> None:
    forecaster = tracked(random_walk(300), np.arange(5, 200))

    assert forecaster.log_factors(random_walk(300), np.array([], dtype=np.intp)).shape == (0, HORIZON, 12)


@pytest.mark.parametrize("horizon", range(1, HORIZON + 2))
def test_the_first_steps_alone_are_the_same(horizon: int) -> None:
    bars, origins = random_walk(900, seed=1), np.array([40, 600, 850])
    forecaster = tracked(bars, np.arange(5, 200))

    for whole in (forecaster, forecaster.static):
        shorter = whole.up_to(horizon)
        first = shorter.predict_quantiles(bars, origins)

        assert (shorter.horizon, shorter.lookback) == (min(horizon, HORIZON), whole.lookback)
        np.testing.assert_array_equal(first.prices, whole.predict_quantiles(bars, origins).prices[:, :horizon])


def test_origins_replayed_together_equal_each_alone() -> None:
    bars = random_walk(900, seed=1)
    forecaster = tracked(bars, np.arange(5, 200))

    together = forecaster.predict_quantiles(bars, np.array([40, 600, 850])).prices

    for row, origin in enumerate((40, 600, 850)):
        alone = forecaster.predict_quantiles(bars, np.array([origin])).prices
        np.testing.assert_array_equal(together[row], alone[0])


def test_the_wanted_sessions_determine_the_forecast() -> None:
    bars = random_walk(900, seed=1)
    forecaster = tracked(bars, np.arange(5, 200))
    recent = bars[-forecaster.wanted_sessions :]

    whole = forecaster.predict_quantiles(bars, np.array([899])).intervals((0.8,))

    served = forecaster.predict_quantiles(recent, np.array([len(recent) - 1])).intervals((0.8,))
    np.testing.assert_array_equal(served.lower, whole.lower)
    np.testing.assert_array_equal(served.upper, whole.upper)


def test_without_a_past_the_static_calibration_stands() -> None:
    bars = random_walk(900, seed=1)
    forecaster = tracked(bars, np.arange(5, 200))
    window, origin = bars[: forecaster.lookback], np.array([forecaster.lookback - 1])

    adaptive = forecaster.predict_quantiles(window, origin).prices

    np.testing.assert_allclose(adaptive, forecaster.static.predict_quantiles(window, origin).prices)


@pytest.mark.parametrize("change", [0.6, 1.6])
def test_when_volatility_changes_coverage_returns_where_static_intervals_stay_wrong(change: float) -> None:
    calm, other = random_walk(1200, seed=3), random_walk(1300, seed=4, daily_volatility=0.01 * change)
    bars = np.vstack([calm, other * (calm[-1, 3] / 100)])
    forecaster = tracked(bars, np.arange(5, 1100))
    later = np.arange(1600, 2400)
    actual = future_closes(bars, later, HORIZON)[:, 0]

    adaptive = forecaster.predict_quantiles(bars, later).intervals((0.8,))
    static = forecaster.static.predict_quantiles(bars, later).intervals((0.8,))

    def covered(lower: np.ndarray, upper: np.ndarray) -> float:
        return float(np.mean((actual >= lower[:, 0, 0]) & (actual <= upper[:, 0, 0])))

    assert covered(adaptive.lower, adaptive.upper) == pytest.approx(0.8, abs=0.03)
    assert abs(covered(static.lower, static.upper) - 0.8) > 0.1


def test_an_origin_asked_for_again_is_answered_the_same() -> None:
    bars = random_walk(900, seed=1)
    forecaster = tracked(bars, np.arange(5, 200))

    first, again = (forecaster.predict_quantiles(bars, np.array([800])).prices for _ in range(2))

    np.testing.assert_array_equal(first, again)


def test_a_replay_of_the_newest_origin_leaves_the_forecasts_it_made_on_the_way() -> None:
    bars, young = random_walk(900, seed=1), random_walk(90, seed=2)
    forecaster = tracked(bars, np.arange(5, 200))

    factors, (made, made_of_young) = forecaster.newest_replays([bars, young], kept=100)

    np.testing.assert_array_equal(factors[0], forecaster.log_factors(bars, np.array([899]))[0])
    replayed = bars[899 - MEMORY - forecaster.lookback + 1 :]  # nothing before the replay's first origin
    for origins, history, found in (
        (np.arange(len(replayed) - 100, len(replayed)), replayed, made),
        (np.arange(forecaster.lookback - 1, 90), young, made_of_young),
    ):
        raw = forecaster.static.inner.predict_quantiles(history, origins)
        served = forecaster.predict_quantiles(history, origins)
        np.testing.assert_array_equal(found.raw.prices, raw.prices[:, :1])
        np.testing.assert_allclose(found.served.prices, served.prices[:, :1], rtol=1e-12)
