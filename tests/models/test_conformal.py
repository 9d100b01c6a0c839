"""Calibration: the rank that makes coverage hold, and forecasts moved by it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import ArtifactCorrupt, CalibrationTooSmall, HorizonTooLong
from models.base import CLOSE, QuantileForecast
from models.baselines.persistence import Persistence
from models.conformal import CalibratedForecaster, Calibration, conformal_margins
from models.windows import future_closes
from tests.fakes import FixedForecaster, random_walk

LEVELS = np.array([0.1, 0.5, 0.9])


@pytest.mark.parametrize(("n_scores", "level"), [(18, 0.95), (1, 0.8), (0, 0.5)])
def test_a_level_that_too_few_scores_support_is_refused(n_scores: int, level: float) -> None:
    with pytest.raises(CalibrationTooSmall):
        Calibration((np.arange(n_scores, dtype=float),)).validate(1, [level])


def test_nineteen_scores_support_95_percent_with_the_largest_of_them() -> None:
    scores = np.arange(1.0, 20.0)

    Calibration((scores,)).validate(1, [0.95])

    assert conformal_margins(scores, np.array([0.0, 0.01, 0.95, 0.99])).tolist() == [0.0, 1.0, 19.0, 19.0]


@given(n_scores=st.integers(1, 60), level=st.floats(0.01, 0.99))
def test_a_new_exchangeable_score_is_covered_at_least_as_often_as_promised(n_scores: int, level: float) -> None:
    # the new score is equally likely to take any of the n + 1 places among the others
    scores = np.arange(1.0, n_scores + 1)
    if n_scores < level / (1 - level):
        return

    (margin,) = conformal_margins(scores, np.array([level]))

    places_covered = margin  # a score in place p is at most the margin when p <= margin
    assert places_covered / (n_scores + 1) >= level - 1e-9
    assert (places_covered - 1) / (n_scores + 1) < level


def test_as_many_steps_as_were_calibrated_may_be_asked_for_and_the_shortest_list_bounds_the_level() -> None:
    calibration = Calibration((np.arange(30.0), np.arange(19.0), np.arange(20.0)))

    calibration.validate(2, [0.5, 0.95])
    calibration.validate(3, [0.95])

    with pytest.raises(HorizonTooLong, match="asked for 4 sessions, the model forecasts 3"):
        calibration.validate(4, [0.5])
    with pytest.raises(CalibrationTooSmall, match=r"19 scores cannot support level 0\.96") as refusal:
        calibration.validate(1, [0.96])
    assert refusal.value.context == {"found": 19}


def test_scores_of_several_tickers_are_pooled_step_by_step() -> None:
    parts = [Calibration((np.array([1.0, 4.0]), np.array([7.0]))), Calibration((np.array([2.0]), np.array([6.0])))]

    pooled = Calibration.pooled(parts)

    assert [step.tolist() for step in pooled.scores] == [[1.0, 2.0, 4.0], [6.0, 7.0]]


def test_thinning_keeps_scores_evenly_spread_in_rank() -> None:
    calibration = Calibration((np.arange(1.0, 20.0), np.arange(1.0, 10.0), np.arange(1.0, 21.0)))

    thinned = calibration.thinned(9)

    assert thinned.scores[0].tolist() == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert thinned.scores[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert thinned.scores[2].tolist() == [3, 5, 7, 9, 11, 13, 15, 17, 19]  # 2.1, 4.2, … rounded up


def test_far_steps_of_a_continued_model_are_calibrated_by_its_base() -> None:
    base = Calibration(tuple(np.full(4, 100.0) for _ in range(3)))
    own = Calibration(tuple(np.arange(1.0, 13.0) for _ in range(3)))

    informed = own.informed_by(base)

    assert [step.tolist() for step in informed.scores] == [
        [*range(1, 13), 100, 100, 100, 100],
        [2, 4, 6, 8, 10, 12, 100, 100, 100, 100],  # of 12 scores one in two, evenly spread in rank
        [3, 6, 8, 11, 100, 100, 100, 100],
    ]


def test_a_base_that_is_calibrated_for_other_steps_is_corrupt() -> None:
    one, two = (Calibration((np.arange(1.0, 13.0),) * n_steps) for n_steps in (1, 2))

    with pytest.raises(ArtifactCorrupt, match="calibrated for 1 steps, not 2"):
        two.informed_by(one)


def test_calibration_sees_nothing_from_the_stop_on() -> None:
    bars = random_walk(20)

    calibration = Calibration.of(Persistence(horizon=2), bars, np.arange(5, 10), stop=11)

    assert [step.size for step in calibration.scores] == [5, 4]
    assert calibration.fewest == 4


@pytest.mark.parametrize("unit", [1.0, 1e-3])
@pytest.mark.parametrize(("actual", "score"), [(20.0, 0.0), (40.0, 1.0), (80.0, 2.0), (10.0, 0.5), (5.0, 1.0)])
def test_a_score_is_the_log_error_in_units_of_the_spread_on_its_side(actual: float, score: float, unit: float) -> None:
    forecast = QuantileForecast(LEVELS, unit * np.array([[[5.0, 20.0, 40.0]]]))  # two doublings below, one above

    calibration = Calibration.measure(forecast, np.array([[actual * unit]]))

    np.testing.assert_allclose(calibration.scores[0], [score], atol=1e-12)


def test_an_unknown_actual_has_no_score() -> None:
    forecast = QuantileForecast(LEVELS, np.array([[[10.0, 20.0, 40.0]], [[10.0, 20.0, 40.0]]]))

    calibration = Calibration.measure(forecast, np.array([[np.nan], [40.0]]))

    np.testing.assert_allclose(calibration.scores[0], [1.0])


def test_a_forecast_without_spread_is_scored_in_hundredths_of_a_basis_point() -> None:
    forecast = QuantileForecast(LEVELS, np.full((2, 1, 3), 20.0))

    calibration = Calibration.measure(forecast, 20.0 * np.exp([[2e-6], [-3e-6]]))

    np.testing.assert_allclose(calibration.scores[0], [2.0, 3.0], rtol=1e-6)


def test_a_forecast_without_spread_gets_the_interval_of_its_past_errors() -> None:
    bars = random_walk(300)
    past, origin = np.arange(10, 290), np.array([295])
    persistence = Persistence(horizon=1)
    actuals = future_closes(bars, past, 1)

    calibration = Calibration.measure(persistence.predict_quantiles(bars, past), actuals)
    interval = calibration.quantiles(persistence.predict_quantiles(bars, origin)).intervals((0.8,))

    errors = np.sort(np.abs(np.log(actuals[:, 0] / bars[past, CLOSE])))
    expected = bars[origin, CLOSE] * np.exp(conformal_margins(errors, np.array([0.8])))
    np.testing.assert_allclose(interval.upper[:, 0, 0], expected)


@given(scale=st.floats(0.3, 3.0))
def test_a_forecaster_that_misjudges_volatility_is_brought_to_its_promised_coverage(scale: float) -> None:
    bars = random_walk(3000, seed=3, daily_volatility=0.01 * scale)
    inner = FixedForecaster()
    calibration_origins, test_origins = np.arange(2, 1500), np.arange(1510, 2990)
    calibration = Calibration.measure(
        inner.predict_quantiles(bars, calibration_origins), future_closes(bars, calibration_origins, inner.horizon)
    )

    intervals = CalibratedForecaster(inner, calibration).predict_quantiles(bars, test_origins).intervals((0.8,))

    actuals = future_closes(bars, test_origins, inner.horizon)[:, 0]
    covered = np.mean((actuals >= intervals.lower[:, 0, 0]) & (actuals <= intervals.upper[:, 0, 0]))
    assert covered == pytest.approx(0.8, abs=0.05)


def test_the_interval_encloses_the_median_which_is_the_forecasters_own() -> None:
    bars = random_walk(400)
    inner = FixedForecaster()
    origins = np.arange(2, 300)
    calibration = Calibration.measure(inner.predict_quantiles(bars, origins), future_closes(bars, origins, 3))

    found = CalibratedForecaster(inner, calibration).predict_quantiles(bars, np.array([350])).intervals((0.5,))

    np.testing.assert_allclose(found.median, bars[350, CLOSE] * np.ones((1, 3)))
    assert ((found.lower[..., 0] <= found.median) & (found.median <= found.upper[..., 0])).all()


def test_a_wider_level_gives_an_interval_that_contains_the_narrower() -> None:
    bars = random_walk(400)
    inner = FixedForecaster()
    origins = np.arange(2, 300)
    calibration = Calibration.measure(inner.predict_quantiles(bars, origins), future_closes(bars, origins, 3))

    found = (
        CalibratedForecaster(inner, calibration).predict_quantiles(bars, np.array([350])).intervals((0.5, 0.8, 0.95))
    )

    assert (np.diff(found.lower, axis=-1) <= 0).all()
    assert (np.diff(found.upper, axis=-1) >= 0).all()


def test_quantiles_are_stated_at_the_levels_of_the_forecast_and_of_the_95_percent_interval() -> None:
    calibration = Calibration((np.arange(1.0, 40.0),))
    prices = np.array([[[5.0, 10.0, 20.0]]])

    narrow = calibration.quantiles(QuantileForecast(np.array([0.1, 0.5, 0.9]), prices))
    wide = calibration.quantiles(QuantileForecast(np.array([0.05, 0.5, 0.95]), prices))

    assert narrow.quantile_levels.tolist() == [0.025, 0.1, 0.5, 0.9, 0.975]
    assert wide.quantile_levels.tolist() == [0.025, 0.05, 0.5, 0.95, 0.975]
    # one doubling is a spread; with 39 scores 80 % take the 32nd, 95 % the 38th
    np.testing.assert_allclose(np.log2(narrow.prices[0, 0, 2:] / 10), [0, 32, 38], atol=1e-12)


def test_the_static_forecaster_wants_a_window_past_halts_and_a_year_before_it() -> None:
    forecaster = CalibratedForecaster(FixedForecaster(), Calibration((np.arange(9.0),)))

    assert forecaster.wanted_sessions == FixedForecaster().lookback + 120 + 250
    assert forecaster.static is forecaster


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_an_interval_reaches_as_many_spreads_as_its_conformal_margin(level: float) -> None:
    bars = random_walk(400)
    inner = FixedForecaster()
    origins, now = np.arange(2, 300), np.array([350])
    calibration = Calibration.measure(inner.predict_quantiles(bars, origins), future_closes(bars, origins, 3))

    found = CalibratedForecaster(inner, calibration).predict_quantiles(bars, now).intervals((level,))

    low, median, high = np.log(inner.predict_quantiles(bars, now).at(np.array([0.1, 0.5, 0.9]))[0]).T
    margin = np.array([conformal_margins(step, np.array([level]))[0] for step in calibration.scores])
    np.testing.assert_allclose(found.lower[0, :, 0], np.exp(median - margin * (median - low)), rtol=1e-12)
    np.testing.assert_allclose(found.upper[0, :, 0], np.exp(median + margin * (high - median)), rtol=1e-12)


def test_calibrated_quantiles_are_ordered() -> None:
    bars = random_walk(400)
    inner = FixedForecaster()
    origins = np.arange(2, 300)
    calibration = Calibration.measure(inner.predict_quantiles(bars, origins), future_closes(bars, origins, 3))

    quantiles = CalibratedForecaster(inner, calibration).predict_quantiles(bars, np.array([350]))

    assert (np.diff(quantiles.prices, axis=-1) >= 0).all()


def test_quantiles_at_some_levels_are_those_of_the_whole_grid() -> None:
    levels = np.array([0.025, 0.1, 0.3, 0.5, 0.7, 0.9, 0.975])
    forecaster = FixedForecaster(horizon=3)
    bars, origins = random_walk(400), np.arange(100, 350)
    forecast = forecaster.predict_quantiles(bars, origins)
    calibration = Calibration.measure(forecast, future_closes(bars, origins, 3))

    some = calibration.quantiles_at(forecast, levels)

    np.testing.assert_array_equal(some.quantile_levels, levels)
    np.testing.assert_allclose(some.prices, calibration.quantiles(forecast).at(levels), rtol=1e-14)
