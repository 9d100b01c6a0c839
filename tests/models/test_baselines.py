"""Baselines: what each learns, from which sessions, and that its window alone decides its forecast."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from errors import ArtifactCorrupt, InvalidRequest, NotFittable, ZeroVariance
from models.base import CLOSE, QUANTILE_GRID, VOLUME, Bars, Forecaster
from models.baselines.closed_form import price_forecast
from models.baselines.drift import fit_drift
from models.baselines.ewma import Ewma
from models.baselines.rolling_empirical import RollingEmpirical
from models.baselines.volatility_regression import (
    LOOKBACK,
    VolatilityRegression,
    VolatilityRegressionParameters,
    log_ranges,
    student_t_quantiles,
)
from models.fitting import PARAMETERS, FitBlocks, FitSettings, FittedModel
from models.specs import BASELINES
from tests.fakes import random_walk

SETTINGS = FitSettings(lookback=60, horizon=5, max_epochs=1, patience=1, max_seconds=60.0, seed=0)
LEARNING = ["drift", "gjr_garch", "volatility_regression", "gradient_boosting"]


@pytest.fixture(params=BASELINES)
def baseline(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def _blocks(bars: Bars) -> FitBlocks:
    """The last 100 origins are left for calibration and test."""
    n = len(bars)
    return FitBlocks(bars, fit=range(60, n - 180), early_stopping=range(n - 180, n - 100))


def _fit(name: str, *bars: Bars) -> FittedModel:
    return BASELINES[name].fit([_blocks(one) for one in bars], SETTINGS, lambda _: None)


def _served(name: str, fitted: FittedModel) -> Forecaster:
    return BASELINES[name].load(fitted.files, fitted.quantile_levels)


def _clustering(n_sessions: int, seed: int = 0) -> Bars:
    """Bars whose volatility wanders, and rises with falling prices."""
    rng = np.random.default_rng(seed)
    returns, variance = np.empty(n_sessions), 1e-4
    for t in range(n_sessions):
        returns[t] = np.sqrt(variance) * rng.standard_normal()
        variance = 4e-6 + (0.05 + 0.1 * (returns[t] < 0)) * returns[t] ** 2 + 0.86 * variance
    close = 100 * np.exp(np.cumsum(returns))
    opened = np.concatenate([[100.0], close[:-1]])
    stretch = np.exp(np.abs(returns) / 3)
    high, low = np.maximum(opened, close) * stretch, np.minimum(opened, close) / stretch
    return np.column_stack([opened, high, low, close, np.full(n_sessions, 1e6)])


def test_a_fit_without_epochs_says_so(baseline: str) -> None:
    fitted = _fit(baseline, random_walk(500))

    assert (fitted.stopped_by, fitted.best_epoch, fitted.validation_losses) == ("closed_form", 0, ())
    assert fitted.quantile_levels == QUANTILE_GRID
    assert set(fitted.files) == {PARAMETERS}


def test_a_window_alone_gives_exactly_the_forecast_of_the_whole_history(baseline: str) -> None:
    bars = _clustering(600)
    forecaster = _served(baseline, _fit(baseline, bars))
    origins = np.arange(400, 600)

    together = forecaster.predict_quantiles(bars, origins).prices

    for origin in (400, 455, 599):
        window = bars[origin + 1 - forecaster.lookback : origin + 1]
        alone = forecaster.predict_quantiles(window, np.array([forecaster.lookback - 1])).prices
        np.testing.assert_array_equal(alone[0], together[origin - 400])


@pytest.mark.parametrize("name", LEARNING)
def test_nothing_after_the_first_calibration_origin_is_learned_from(name: str) -> None:
    bars = _clustering(600)
    altered = bars.copy()
    altered[501:] *= np.array([1.7, 1.9, 1.5, 1.8, 1.0])  # 500 is the first calibration origin

    assert _fit(name, altered).files == _fit(name, bars).files


@pytest.mark.parametrize("name", LEARNING)
def test_the_early_stopping_sessions_are_learned_from(name: str) -> None:
    bars = _clustering(600)
    altered = bars.copy()
    altered[450:] *= np.array([1.1, 1.15, 1.05, 1.1, 1.0])

    assert _fit(name, altered).files != _fit(name, bars).files


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"{}", b'{"horizon":0}', b'{"horizon":"many"}'])
def test_a_file_that_holds_no_parameters_is_corrupt(baseline: str, content: bytes) -> None:
    with pytest.raises(ArtifactCorrupt):
        BASELINES[baseline].load({PARAMETERS: content}, QUANTILE_GRID)


@pytest.mark.parametrize("parameter", ["NaN", "Infinity"])
def test_a_parameter_that_is_no_number_is_corrupt(parameter: str) -> None:
    content = f'{{"horizon":1,"mean_log_return":{parameter}}}'.encode()

    with pytest.raises(ArtifactCorrupt):
        BASELINES["drift"].load({PARAMETERS: content}, QUANTILE_GRID)


def test_a_horizon_of_one_session_is_enough() -> None:
    assert BASELINES["persistence"].load({PARAMETERS: b'{"horizon":1}'}, QUANTILE_GRID).horizon == 1


def test_returns_beyond_any_price_are_cut_off() -> None:
    forecast = price_forecast(random_walk(2), np.array([1]), np.array([-60.0, -1.0, 60.0]), (0.1, 0.5, 0.9))

    np.testing.assert_allclose(np.log(forecast.prices[0, 0] / random_walk(2)[1, CLOSE]), [-50, -1, 50])


@pytest.mark.parametrize(("n_traded", "refused"), [(99, True), (100, False)])
def test_a_garch_needs_100_sessions_that_traded(n_traded: int, refused: bool) -> None:
    traded = random_walk(n_traded)
    halt = np.tile([*[traded[-1, CLOSE]] * 4, 0.0], (150, 1))
    bars = np.concatenate([traded, halt])
    blocks = FitBlocks(bars, fit=range(60, 150), early_stopping=range(150, 240))

    if refused:
        with pytest.raises(NotFittable, match="needs 100 sessions that traded, found 99"):
            BASELINES["gjr_garch"].fit([blocks], SETTINGS, lambda _: None)
    else:
        BASELINES["gjr_garch"].fit([blocks], SETTINGS, lambda _: None)


def found_by_arch(monkeypatch: pytest.MonkeyPatch, **parameters: float) -> None:
    """Lets the optimiser end at these parameters, which are of returns in per cent."""
    optimum = {"mu": 0.05, "omega": 0.02, "alpha[1]": 0.03, "gamma[1]": 0.1, "beta[1]": 0.9, "nu": 6.0, **parameters}
    model = SimpleNamespace(fit=lambda **_: SimpleNamespace(params=pd.Series(optimum)))
    monkeypatch.setattr("arch.arch_model", lambda *_, **__: model)


def test_an_optimum_below_its_bound_by_a_rounding_error_is_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    found_by_arch(monkeypatch, **{"omega": -1e-15, "alpha[1]": -1e-15, "beta[1]": -1e-15})
    bars = random_walk(500)

    fitted = _fit("gjr_garch", bars)

    stored = json.loads(fitted.files[PARAMETERS])
    assert [stored[name] for name in ("omega", "alpha", "beta")] == [0.0, 0.0, 0.0]
    assert np.isfinite(_served("gjr_garch", fitted).predict_quantiles(bars, np.array([499])).prices).all()


def test_a_garch_is_stored_in_fractions_rather_than_in_per_cent(monkeypatch: pytest.MonkeyPatch) -> None:
    found_by_arch(monkeypatch)
    bars = random_walk(500)

    stored = json.loads(_fit("gjr_garch", bars).files[PARAMETERS])

    expected = {"mean": 0.0005, "omega": 2e-6, "alpha": 0.03, "gamma": 0.1, "beta": 0.9}
    assert {name: stored[name] for name in expected} == pytest.approx(expected)
    assert stored["start_variance"] == pytest.approx(np.diff(np.log(bars[:401, CLOSE])).var())
    assert stored["quantiles"] == pytest.approx((stats.t.ppf(QUANTILE_GRID, 6.0) * np.sqrt(4 / 6)).tolist())


@pytest.mark.parametrize("parameters", [{"nu": 2.0}, {"nu": 1.5}, {"mu": np.nan}, {"omega": np.inf}])
def test_a_likelihood_without_a_maximum_is_not_fittable(
    monkeypatch: pytest.MonkeyPatch, parameters: dict[str, float]
) -> None:
    found_by_arch(monkeypatch, **parameters)

    with pytest.raises(NotFittable, match="no finite maximum"):
        _fit("gjr_garch", random_walk(500))


def test_a_student_t_needs_30_outcomes_that_differ() -> None:
    sample = np.random.default_rng(0).normal(size=30)

    assert len(student_t_quantiles(sample)) == len(QUANTILE_GRID)
    with pytest.raises(NotFittable, match="need 30 outcomes of each step, found 29"):
        student_t_quantiles(sample[1:])
    with pytest.raises(NotFittable, match="more than half of the returns are equal"):
        student_t_quantiles(np.where(np.arange(30) < 16, 0.5, sample))
    assert set(student_t_quantiles(np.full(30, 0.25))) == {0.25}


@pytest.mark.parametrize("name", ["gjr_garch", "volatility_regression", "gradient_boosting"])
def test_quantiles_of_other_levels_are_corrupt(name: str) -> None:
    fitted = _fit(name, random_walk(500))

    with pytest.raises(ArtifactCorrupt, match="quantiles"):
        BASELINES[name].load(fitted.files, QUANTILE_GRID[1:])


@pytest.mark.parametrize("key", ["coefficients", "quantiles"])
def test_a_regression_that_lacks_a_step_is_corrupt(key: str) -> None:
    fitted = _fit("volatility_regression", random_walk(500))
    parameters = json.loads(fitted.files[PARAMETERS])
    parameters[key].pop()

    with pytest.raises(ArtifactCorrupt):
        BASELINES["volatility_regression"].load({PARAMETERS: json.dumps(parameters).encode()}, QUANTILE_GRID)


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "gjr_garch"])
def test_several_series_make_one_model(name: str) -> None:
    walks = random_walk(500), random_walk(400, seed=1, daily_volatility=0.03, start=7.0)

    forecaster = _served(name, _fit(name, *walks))

    assert np.isfinite(forecaster.predict_quantiles(walks[1], np.array([399])).prices).all()


def test_a_garch_of_several_series_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="one ticker, not to 2"):
        _fit("gjr_garch", random_walk(500), random_walk(500, seed=1))


def test_a_garch_of_returns_that_never_vary_is_refused() -> None:
    steady = np.repeat(np.exp(0.001 * np.arange(500))[:, None], 5, axis=1)

    with pytest.raises(ZeroVariance):
        _fit("gjr_garch", steady)


@pytest.mark.parametrize("growth", [0.0, 0.001])
def test_a_regression_on_prices_without_surprise_is_finite(growth: float) -> None:
    steady = np.repeat(np.exp(growth * np.arange(500))[:, None], 5, axis=1)

    forecaster = _served("volatility_regression", _fit("volatility_regression", steady))

    assert np.isfinite(forecaster.predict_quantiles(steady, np.array([499])).prices).all()


def test_a_price_that_explodes_in_the_window_still_gives_finite_prices(baseline: str) -> None:
    forecaster = _served(baseline, _fit(baseline, random_walk(500)))
    bars = random_walk(400)
    bars[390:, :VOLUME] *= 1e12

    prices = forecaster.predict_quantiles(bars, np.array([399])).prices

    assert np.isfinite(prices).all()
    assert (prices > 0).all()


def test_volume_does_not_matter(baseline: str) -> None:
    bars = random_walk(500)
    silent = bars.copy()
    silent[:, VOLUME] = np.nan
    origins = np.array([499])

    forecast = _served(baseline, _fit(baseline, silent)).predict_quantiles(silent, origins)

    expected = _served(baseline, _fit(baseline, bars)).predict_quantiles(bars, origins)
    np.testing.assert_array_equal(forecast.prices, expected.prices)


def test_drift_grows_at_the_mean_rate() -> None:
    bars = np.repeat(2.0 ** np.arange(12)[:, None], 5, axis=1)
    blocks = FitBlocks(bars, fit=range(5), early_stopping=range(5, 8))

    fitted = fit_drift([blocks], replace(SETTINGS, horizon=2), lambda _: None)

    forecast = _served("drift", fitted).predict_quantiles(bars, np.array([3]))
    np.testing.assert_allclose(forecast.prices[0, :, 0], [16.0, 32.0])


def test_the_rolling_distribution_is_that_of_the_window() -> None:
    bars = random_walk(400)
    close = bars[:, CLOSE]

    forecast = RollingEmpirical(horizon=3).predict_quantiles(bars, np.array([320])).prices[0]

    for step in (1, 2, 3):
        returns = [np.log(close[t] / close[t - step]) for t in range(321 - 251 + step, 321)]
        np.testing.assert_allclose(forecast[step - 1], close[320] * np.exp(np.quantile(returns, QUANTILE_GRID)))


def test_ewma_equals_the_recursion() -> None:
    bars = random_walk(400)
    returns = np.diff(np.log(bars[:, CLOSE]))
    variance = returns[0] ** 2
    for value in returns:
        variance = 0.94 * variance + 0.06 * value**2

    forecast = Ewma(horizon=4).predict_quantiles(bars, np.array([399])).at(np.array([0.9]))[0, :, 0]

    expected = np.sqrt(variance * np.arange(1, 5)) * stats.norm.ppf(0.9)
    np.testing.assert_allclose(np.log(forecast / bars[-1, CLOSE]), expected, rtol=5e-3)


def test_garch_forecasts_the_variance_that_arch_does() -> None:
    from arch import arch_model

    bars = _clustering(1500)
    returns = 100 * np.diff(np.log(bars[:, CLOSE]))
    model = arch_model(returns, p=1, o=1, q=1, dist="t", rescale=False).fit(disp="off", last_obs=1400)
    path = model.forecast(horizon=5, start=1498).variance.to_numpy()[-1]  # after the last return

    forecaster = _served("gjr_garch", _fit("gjr_garch", bars))

    upper, lower = forecaster.predict_quantiles(bars, np.array([1499])).at(np.array([0.95, 0.05]))[0].T
    spread = stats.t.ppf(0.95, model.params["nu"]) * np.sqrt((model.params["nu"] - 2) / model.params["nu"])
    deviation = 100 * np.log(upper / lower) / (2 * spread)
    np.testing.assert_allclose(deviation, np.sqrt(np.cumsum(path)), rtol=1e-3)


@pytest.mark.parametrize("name", ["ewma", "gjr_garch", "volatility_regression", "gradient_boosting"])
def test_a_restless_window_widens_the_forecast(name: str) -> None:
    bars = _clustering(900)
    forecaster = _served(name, _fit(name, bars))
    calm, restless = random_walk(300, daily_volatility=0.005), random_walk(300, daily_volatility=0.02)

    def spread(given: Bars) -> float:
        low, high = forecaster.predict_quantiles(given, np.array([299])).at(np.array([0.1, 0.9]))[0, 0]
        return float(np.log(high / low))

    assert spread(restless) > 1.5 * spread(calm)


def test_the_regression_equals_a_naive_one() -> None:
    bars, step = random_walk(400), 5
    known = bars[:301]
    log_range = np.log(np.log(known[:, 1] / known[:, 2]))
    rows, targets, returns = [], [], []
    for t in range(60, 301 - step):
        rows.append([1.0, *(log_range[t + 1 - width : t + 1].mean() for width in (1, 5, 22, 60))])
        targets.append(log_range[t + 1 : t + 1 + step].mean())
        returns.append(np.log(known[t + step, CLOSE] / known[t, CLOSE]))
    coefficients = np.linalg.lstsq(np.array(rows), np.array(targets), rcond=None)[0]
    student_t = stats.t.fit(np.array(returns) / np.exp(np.array(rows) @ coefficients))

    fitted = _fit("volatility_regression", bars)

    parameters = json.loads(fitted.files[PARAMETERS])
    np.testing.assert_allclose(parameters["coefficients"][step - 1], coefficients, rtol=1e-6)
    np.testing.assert_allclose(parameters["quantiles"][step - 1], stats.t.ppf(QUANTILE_GRID, *student_t), rtol=1e-3)


def test_a_regression_served_closes_alone_forecasts_about_as_wide() -> None:
    bars = random_walk(1000)
    forecaster = _served("volatility_regression", _fit("volatility_regression", bars))
    closes = np.full_like(bars, np.nan)
    closes[:, CLOSE] = bars[:, CLOSE]
    origins, edges = np.arange(900, 1000), np.array([0.1, 0.9])

    def spread(given: Bars) -> float:
        low, high = np.moveaxis(forecaster.predict_quantiles(given, origins).at(edges), -1, 0)
        return float(np.log(high / low).mean())

    assert spread(closes) == pytest.approx(spread(bars), rel=0.3)


@pytest.mark.parametrize(("log_scale", "expected"), [(-3.0, -3.0), (0.9, 0.9), (1.1, 1.0), (30.0, 1.0)])
def test_the_range_of_a_regression_far_outside_the_fitted_data_is_cut_off(log_scale: float, expected: float) -> None:
    coefficients, quantiles = ((log_scale, 0.0, 0.0, 0.0, 0.0),), ((-1.0, 0.0, 1.0),)
    parameters = VolatilityRegressionParameters(horizon=1, coefficients=coefficients, quantiles=quantiles)
    bars = random_walk(100)

    forecast = VolatilityRegression(parameters, (0.1, 0.5, 0.9)).predict_quantiles(bars, np.array([99]))

    moves = np.log(forecast.prices[0, 0] / bars[99, CLOSE])
    np.testing.assert_allclose(moves, np.exp(expected) * np.array(quantiles[0]), atol=1e-12)


@pytest.mark.parametrize("name", ["gjr_garch", "volatility_regression", "gradient_boosting"])
def test_a_model_of_a_random_walk_covers_what_it_promises(name: str) -> None:
    bars = random_walk(2500, seed=3)
    forecaster = _served(name, _fit(name, bars[:1600]))
    origins = np.arange(1600, 2490)

    low, high = np.moveaxis(forecaster.predict_quantiles(bars, origins).at(np.array([0.1, 0.9]))[:, 0], -1, 0)

    inside = (bars[origins + 1, CLOSE] >= low) & (bars[origins + 1, CLOSE] <= high)
    assert inside.mean() == pytest.approx(0.8, abs=0.05)


@given(seed=st.integers(0, 10_000), volatility=st.floats(0.002, 0.06))
def test_closes_alone_never_give_a_range_of_zero(seed: int, volatility: float) -> None:
    bars = random_walk(LOOKBACK, seed=seed, daily_volatility=volatility)
    bars[30:, CLOSE] = bars[30, CLOSE]
    bars[:, :CLOSE] = np.nan

    found = log_ranges(bars[None])

    assert (np.exp(found) > volatility / 10).all()
