"""Forecasts that are no prices are refused, unless no model could forecast from such closes."""

import numpy as np
import pytest
from numpy.typing import NDArray

from errors import ArtifactCorrupt
from models.base import CLOSE, HIGH, IMPLIED_VOLATILITY, LOW, OPEN, VOLUME, Bars, Origins, QuantileForecast
from models.checked import CheckedForecaster, trial_bars, validate_model
from models.conformal import Calibration
from models.serving import served
from tests.fakes import random_walk

LEVELS = (0.1, 0.5, 0.9)
SOUND = np.array([[99.0, 100.0, 101.0], [98.0, 100.0, 102.0]])
LOOKBACK = 20
BARS, ENDS = random_walk(60), np.array([40, 50])


class Fixed:
    """Forecasts the same prices from every origin."""

    def __init__(self, prices: NDArray[np.float64] = SOUND, lookback: int = LOOKBACK, horizon: int = 2) -> None:
        self.prices, self.lookback, self.horizon = prices, lookback, horizon
        self.origins: list[int] = []

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        self.origins += origins.tolist()
        return QuantileForecast(np.array(LEVELS), np.repeat(self.prices[None], origins.size, axis=0))


def with_price(value: float, step: int = 1, level: int = 1) -> NDArray[np.float64]:
    prices = SOUND.copy()
    prices[step, level] = value
    return prices


@pytest.mark.parametrize(
    "prices", [SOUND, with_price(98.0), with_price(98.0 * (1 - 1e-10)), with_price(1e-300, level=0)]
)
def test_prices_in_ascending_order_pass(prices: NDArray[np.float64]) -> None:
    found = CheckedForecaster(Fixed(prices)).predict_quantiles(BARS, ENDS)

    np.testing.assert_array_equal(found.prices, [prices, prices])


@pytest.mark.parametrize(
    "prices",
    [
        with_price(98.0 * (1 - 1e-8)),
        with_price(103.0),
        with_price(0.0, level=0),
        with_price(-1.0, level=0),
        with_price(np.nan),
        with_price(np.nan, level=0),
        with_price(np.nan, level=2),
        with_price(np.inf, level=2),
        SOUND[:, ::-1],
    ],
)
def test_anything_else_is_corrupt(prices: NDArray[np.float64]) -> None:
    with pytest.raises(ArtifactCorrupt, match="not finite prices in ascending order"):
        CheckedForecaster(Fixed(prices)).predict_quantiles(BARS, ENDS)


@pytest.mark.parametrize("horizon", [1, 3])
def test_another_shape_than_the_model_says_is_corrupt(horizon: int) -> None:
    with pytest.raises(ArtifactCorrupt, match=rf"shape \(2, {horizon}, 3\), found \(2, 2, 3\)"):
        CheckedForecaster(Fixed(horizon=horizon)).predict_quantiles(BARS, ENDS)


@pytest.mark.parametrize(
    ("lookback", "horizon", "sound"),
    [(1, 1, True), (1000, 250, True), (0, 1, False), (1, 0, False), (1001, 1, False), (1, 251, False)],
)
def test_a_model_has_a_lookback_and_a_horizon_within_limits(lookback: int, horizon: int, sound: bool) -> None:
    if sound:
        CheckedForecaster(Fixed(lookback=lookback, horizon=horizon))
        return
    with pytest.raises(ArtifactCorrupt, match=f"cannot forecast {horizon} steps from {lookback} sessions"):
        CheckedForecaster(Fixed(lookback=lookback, horizon=horizon))


@pytest.mark.parametrize(
    ("row", "log_move", "blamed"),
    [
        (45, 0.9, True),
        (45, 1.1, False),
        (50, -1.1, False),
        (51, 1.1, True),  # after the last origin
        (22, 1.1, False),
        (21, 1.1, True),  # the move is into the first session of the first window
    ],
)
def test_closes_that_jump_excuse_a_forecast_from_them(row: int, log_move: float, blamed: bool) -> None:
    bars = np.full((60, 5), 100.0)
    bars[row:] *= np.exp(log_move)
    forecaster = CheckedForecaster(Fixed(with_price(np.nan)))

    if not blamed:
        forecaster.predict_quantiles(bars, ENDS)
        return
    with pytest.raises(ArtifactCorrupt):
        forecaster.predict_quantiles(bars, ENDS)


def test_a_jump_from_the_first_session_of_all_excuses_a_forecast_from_it() -> None:
    bars = np.full((60, 5), 100.0)
    bars[0] *= np.exp(1.1)
    forecaster = CheckedForecaster(Fixed(with_price(np.nan)))

    forecaster.predict_quantiles(bars, np.array([LOOKBACK - 1]))

    with pytest.raises(ArtifactCorrupt):
        forecaster.predict_quantiles(bars, np.array([LOOKBACK]))


@pytest.mark.parametrize(("total", "blamed"), [(2.9, True), (3.1, False)])
def test_closes_that_go_too_far_excuse_a_forecast_from_them(total: float, blamed: bool) -> None:
    logs = np.interp(np.arange(60), [21, 50], [0.0, total])
    bars = np.repeat(np.exp(logs)[:, None], 5, axis=1)
    bars[30, CLOSE] = np.nan  # unknown, not zero
    forecaster = CheckedForecaster(Fixed(with_price(np.nan)))

    if not blamed:
        forecaster.predict_quantiles(bars, ENDS)
        return
    with pytest.raises(ArtifactCorrupt):
        forecaster.predict_quantiles(bars, ENDS)


CALIBRATION = Calibration((np.array([0.5, 1.0]),) * 2)


def test_a_model_is_tried_on_an_ordinary_walk() -> None:
    validate_model(served(Fixed(), CALIBRATION, "static"))
    with pytest.raises(ArtifactCorrupt):
        validate_model(served(Fixed(with_price(np.nan)), CALIBRATION, "static"))


def test_a_model_is_tried_on_a_whole_window_of_the_walk() -> None:
    model = Fixed()

    validate_model(served(model, CALIBRATION, "static"))

    assert model.origins == [LOOKBACK - 1]


def test_the_bars_of_the_trial_are_sound_and_always_the_same() -> None:
    bars = trial_bars(500)

    np.testing.assert_array_equal(bars, trial_bars(500))
    for prices in (bars[:, : CLOSE + 1], bars[:, VOLUME + 1 : IMPLIED_VOLATILITY]):
        assert (prices[:, HIGH] > prices[:, [OPEN, CLOSE]].max(1)).all()
        assert (prices[:, LOW] < prices[:, [OPEN, CLOSE]].min(1)).all()
        assert np.diff(np.log(prices[:, CLOSE])).std() == pytest.approx(0.01, rel=0.1)
        assert np.log(prices[:, OPEN] / prices[:, CLOSE]).std() == pytest.approx(0.0025, rel=0.1)
        assert np.log(prices[:, HIGH] / prices[:, LOW]).mean() < 0.02
        above = prices[:, HIGH] / prices[:, [OPEN, CLOSE]].max(1)
        below = prices[:, [OPEN, CLOSE]].min(1) / prices[:, LOW]
        assert abs(np.corrcoef(above, below)[0, 1]) < 0.2
        assert np.log(np.minimum(above, below)).min() >= 0.00099  # no session has an empty range
    walk = np.random.default_rng(0).normal(0, 0.01, 500).cumsum()
    np.testing.assert_allclose(bars[:, CLOSE], 100 * np.exp(walk))
    assert (bars[:, VOLUME] == 1e6).all()
    assert (bars[:, IMPLIED_VOLATILITY] == 20).all()
