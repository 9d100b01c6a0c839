"""The scorer: skill with its p-value, coverage per level, and tickers that share sessions."""

import numpy as np
import pytest
from scipy import stats

from services.evaluation.scorer import Outcomes, card_report, card_reports, score, stacked
from services.evaluation.significance import p_value
from tests.values import assert_values

N, HORIZON, LEVELS = 40, 3, (0.5, 0.8)


def outcomes(seed: int = 0, scale: float = 1.0) -> Outcomes:
    """Forecasts that are off by less than persistence, of which the last have no outcome yet."""
    rng = np.random.default_rng(seed)
    last = scale * rng.uniform(90, 110, N)
    actual = last[:, None] + scale * rng.normal(0, 2, (N, HORIZON))
    median = actual + scale * rng.normal(0, 1, (N, HORIZON))
    half = scale * np.array([0.7, 1.3])
    for step in range(1, HORIZON + 1):
        actual[N - step :, step - 1] = np.nan
    error, still = np.abs(actual - median), np.abs(actual - last[:, None])
    return Outcomes(last, actual, median, median[..., None] - half, median[..., None] + half, error, still)


def test_every_step_is_scored_over_its_known_outcomes() -> None:
    found = outcomes()

    report = score(found.at(2), LEVELS, 2)

    actual, median, last = found.actual[:-2, 1], found.median[:-2, 1], found.last[:-2]
    own, theirs = np.abs(actual - median), np.abs(actual - last)
    assert (report.step, report.n_origins) == (2, N - 2)
    assert report.model.mae == report.model.crps == pytest.approx(own.mean())
    assert report.persistence.mae == report.persistence.crps == pytest.approx(theirs.mean())
    assert report.skill.mae == pytest.approx(1 - own.mean() / theirs.mean())
    assert report.skill.rmse == pytest.approx(1 - np.sqrt((own**2).mean() / (theirs**2).mean()))
    assert report.p_value.mape == p_value((own / actual)[:, None], (theirs / actual)[:, None], overlap=2)
    assert report.p_value.rmse == p_value((own**2)[:, None], (theirs**2)[:, None], overlap=2)
    assert [one.empirical_coverage for one in report.coverage] == [(own <= 0.7).mean(), (own <= 1.3).mean()]
    assert [one.width for one in report.coverage] == pytest.approx([1.4, 2.6])
    assert report.coverage[1].interval_score == pytest.approx(2.6 + (2 / 0.2 * np.maximum(own - 1.3, 0)).mean())


def test_all_steps_together_count_each_origin_once() -> None:
    found = outcomes()

    report = score(found, LEVELS, None)

    assert (report.step, report.n_origins, report.coverage[0].n_origins) == (None, N - 1, N - 1)
    losses = np.abs(found.actual - found.median), np.abs(found.actual - found.last[:, None])
    assert report.p_value.mae == p_value(*losses, overlap=HORIZON)
    assert score(found, LEVELS, None, overlap=1).p_value.mae == p_value(*losses, overlap=1)


def test_forecasts_without_a_level_do_not_count_in_its_coverage() -> None:
    found = outcomes()
    found.lower[10:, :, 0] = np.nan
    found.lower[:, :, 1] = np.nan

    (interval,) = score(found.at(1), LEVELS, 1).coverage

    assert (interval.level, interval.n_origins) == (0.5, 10)
    assert interval.empirical_coverage == (found.crps[:10, 0] <= 0.7).mean()


def test_a_step_without_outcome_has_no_report() -> None:
    found = outcomes()
    found.actual[:, 1] = np.nan

    assert [report.step for report in card_reports(found, LEVELS)] == [1, 3]


def test_tickers_that_share_sessions_are_one_observation_a_session() -> None:
    one, sessions = outcomes(), np.arange(N).astype("datetime64[D]")

    twice = score(stacked([one, one]).at(1), LEVELS, 1, sessions=np.concatenate([sessions, sessions]))

    once = score(one.at(1), LEVELS, 1)
    assert twice.n_origins == 2 * once.n_origins
    assert twice.p_value.model_dump() == pytest.approx(once.p_value.model_dump())


def test_a_card_keeps_six_digits_of_every_step_and_no_width() -> None:
    found = outcomes()

    reports = card_reports(found, LEVELS)

    assert [report.step for report in reports] == [1, 2, 3]
    assert reports[0].model.mae == float(f"{score(found.at(1), LEVELS, 1).model.mae:.6g}")
    assert set(reports[0].coverage[0].model_dump()) == {"level", "empirical_coverage", "n_origins"}
    assert card_report(reports[0]) == reports[0]


def test_too_few_origins_for_the_overlap_have_no_p_value() -> None:
    losses = np.random.default_rng(0).normal(size=(12, 1))

    assert p_value(losses, np.zeros((12, 1)), overlap=6) is None
    expected = stats.ttest_1samp(losses[:, 0], 0.0).pvalue
    assert p_value(losses, np.zeros((12, 1)), overlap=1) == pytest.approx(expected)
    assert p_value(losses, losses, overlap=1) is None


def test_values_are_immutable_and_arrays_are_not_compared() -> None:
    assert_values("services.evaluation")
