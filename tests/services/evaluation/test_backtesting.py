"""Walk-forward: each forecast is made at its own origin, and scored with what followed."""

from dataclasses import fields

import numpy as np
import pytest

from models.base import CLOSE
from models.baselines.rolling_empirical import RollingEmpirical
from models.windows import future_closes
from services.evaluation import accuracy, backtesting
from services.evaluation.accuracy import CRPS_LEVELS
from services.evaluation.backtesting import BacktestConfig, BacktestForecasts, report, walk_forward
from services.evaluation.significance import p_value
from tests.fakes import FixedForecaster, random_walk

BARS = random_walk(400)
QUANTILE_LEVELS = (0.1, 0.5, 0.9)
CONFIG = BacktestConfig(np.arange(300, 400, 2), 3, (0.5, 0.8), QUANTILE_LEVELS, stride=2)


def found(config: BacktestConfig = CONFIG) -> BacktestForecasts:
    return walk_forward(lambda _: FixedForecaster(horizon=5), BARS, config)


def assert_same(one: BacktestForecasts, other: BacktestForecasts) -> None:
    for field in fields(BacktestForecasts):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_the_forecasts_are_those_of_the_forecaster_and_the_outcomes_those_of_the_bars() -> None:
    origins, forecast = CONFIG.origins, FixedForecaster(horizon=3).predict_quantiles(BARS, CONFIG.origins)

    walked = found()

    actual, last = future_closes(BARS, origins, 3), BARS[origins, CLOSE]
    np.testing.assert_array_equal(walked.last, last)
    np.testing.assert_array_equal(walked.actual, actual)
    np.testing.assert_array_equal(walked.median, forecast.median)
    np.testing.assert_array_equal(walked.quantiles, forecast.at(np.array(QUANTILE_LEVELS)))
    np.testing.assert_allclose(walked.lower, forecast.at(np.array([0.25, 0.1])))
    np.testing.assert_allclose(walked.upper, forecast.at(np.array([0.75, 0.9])))
    grid = forecast.at(CRPS_LEVELS)
    np.testing.assert_allclose(walked.crps, accuracy.crps_losses(actual, grid, CRPS_LEVELS))
    np.testing.assert_allclose(walked.persistence_crps, np.abs(actual - last[:, None]))
    np.testing.assert_allclose(
        walked.crps_log,
        accuracy.crps_losses(np.log(actual / last[:, None]), np.log(grid / last[:, None, None]), CRPS_LEVELS),
    )


@pytest.mark.parametrize("chunk", [1, 7, 50])
def test_origins_forecast_in_parts_are_those_forecast_at_once(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    together = found()

    monkeypatch.setattr(backtesting, "CHUNK", chunk)

    assert_same(found(), together)


def test_a_forecaster_is_fitted_again_at_the_first_origin_of_each_part() -> None:
    fitted_at: list[int] = []

    def forecaster_at(origin: int) -> FixedForecaster:
        fitted_at.append(origin)
        return FixedForecaster()

    walked = walk_forward(forecaster_at, BARS, BacktestConfig(np.arange(300, 310), 3, (0.8,), refit_every=4))

    assert fitted_at == [300, 304, 308]
    assert walked.last.tolist() == BARS[300:310, CLOSE].tolist()


def test_every_step_and_all_together_are_reported_with_the_skill_against_the_rolling_distribution() -> None:
    walked, closes = found(), BARS[:301, CLOSE]
    empirical = walk_forward(lambda _: RollingEmpirical(horizon=3), BARS, CONFIG)

    answer = report("fixed", walked, empirical, closes, CONFIG)

    assert (answer.name, answer.overall.step) == ("fixed", None)
    assert [step.step for step in answer.steps] == [1, 2, 3]
    # two sessions from origin to origin: outcomes of one or two sessions share none, those of three are shared by two
    for part, columns, overlap in (
        (answer.overall, slice(0, 3), 2),
        *((answer.steps[k], slice(k, k + 1), (1, 1, 2)[k]) for k in range(3)),
    ):
        actual, median, last = walked.actual[:, columns], walked.median[:, columns], walked.last[:, None]
        own, theirs = walked.crps_log[:, columns], empirical.crps_log[:, columns]
        assert part.model.mae == pytest.approx(np.nanmean(np.abs(actual - median)))
        assert part.model.mase == pytest.approx(part.model.mae / np.abs(np.diff(closes)).mean())
        assert part.model.hit_rate is None or 0 <= part.model.hit_rate <= 1
        assert part.model.crps_log_return == pytest.approx(np.nanmean(own))
        levels = np.array(QUANTILE_LEVELS)
        assert part.model.pinball == pytest.approx(accuracy.pinball_loss(actual, walked.quantiles[:, columns], levels))
        assert part.skill.crps_vs_rolling_empirical == pytest.approx(1 - np.nanmean(own) / np.nanmean(theirs))
        assert part.p_value.crps_vs_rolling_empirical == p_value(own, theirs, overlap)
        assert part.p_value.crps == p_value(walked.crps[:, columns], walked.persistence_crps[:, columns], overlap)
        assert [one.level for one in part.coverage] == [0.5, 0.8]
        assert part.skill.mae == pytest.approx(1 - part.model.mae / np.nanmean(np.abs(actual - last)))


def test_without_a_rolling_distribution_there_is_no_skill_against_it() -> None:
    answer = report("fixed", found(), None, BARS[:301, CLOSE], CONFIG)

    assert answer.overall.skill.crps_vs_rolling_empirical is None
    assert answer.overall.p_value.crps_vs_rolling_empirical is None


def test_a_forecast_above_the_last_close_hits_where_the_price_rose() -> None:
    walked = walk_forward(lambda _: RollingEmpirical(horizon=3), BARS, CONFIG)

    answer = report("rolling_empirical", walked, None, BARS[:301, CLOSE], CONFIG)

    rose, said = walked.actual > walked.last[:, None], walked.median > walked.last[:, None]
    known = ~np.isnan(walked.actual)
    assert answer.overall.model.hit_rate == pytest.approx((rose == said)[known].mean())
