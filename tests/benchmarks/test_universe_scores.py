"""Scores of many tickers: pooled sums, paired differences, and errors that know that a date is one draw."""

import numpy as np
import pytest

from benchmarks.universe_scores import LEVELS, STEPS, Bootstrap, Scores, coverages, differences, share_better, skills

BOOTSTRAP = Bootstrap(block=4)


def scores(crps: float | np.ndarray, n: int = 40, first: str = "2019-01-01") -> Scores:
    sessions = np.datetime64(first) + 7 * np.arange(n)
    losses = np.broadcast_to(np.reshape(crps, (-1, 1)), (n, len(STEPS))).astype(float)
    return Scores(sessions, losses, np.ones((n, len(STEPS), len(LEVELS))))


def test_skill_pools_the_sums_of_all_tickers() -> None:
    row, reference = {"A": scores(1.0), "B": scores(3.0)}, {"A": scores(2.0), "B": scores(6.0)}

    found = skills(row, reference, BOOTSTRAP)

    assert [one.value for one in found] == pytest.approx([50.0] * len(STEPS))
    assert [one.error for one in found] == pytest.approx([0.0] * len(STEPS), abs=1e-9)


def test_a_forecast_without_outcome_does_not_count() -> None:
    losses = np.ones(40)
    losses[7:] = np.nan
    reference = {"A": scores(np.where(np.arange(40) < 7, 4.0, 1e9))}

    assert skills({"A": scores(losses)}, reference, BOOTSTRAP)[0].value == pytest.approx(75.0)


def test_a_difference_is_that_of_two_skills_and_has_less_error_where_losses_move_together() -> None:
    rng = np.random.default_rng(0)
    common = rng.exponential(size=40)
    reference, other, row = ({"A": scores(common * k)} for k in (1.0, 0.9, 0.8))
    noisy = {"A": scores(np.maximum(common + rng.normal(0, 0.3, 40), 0))}

    found = differences(row, other, reference, BOOTSTRAP)[0]

    assert found.value == pytest.approx(10.0)
    assert found.error == pytest.approx(0.0, abs=1e-9)
    unpaired = skills(noisy, reference, BOOTSTRAP)[0]
    assert unpaired.error > 1
    assert unpaired.low < unpaired.value < unpaired.high


def test_tickers_that_err_on_the_same_dates_are_no_more_certain_than_one() -> None:
    losses = np.random.default_rng(1).exponential(size=200)
    reference = scores(1.0, 200)

    one = skills({"A": scores(losses, 200)}, {"A": reference}, BOOTSTRAP)[0]
    ten = skills(dict.fromkeys("ABCDEFGHIJ", scores(losses, 200)), dict.fromkeys("ABCDEFGHIJ", reference), BOOTSTRAP)[0]

    assert ten.error == pytest.approx(one.error)


def test_blocks_widen_the_error_of_losses_that_persist() -> None:
    losses = np.repeat(np.random.default_rng(2).exponential(size=50), 4)
    row, reference = {"A": scores(losses, 200)}, {"A": scores(1.0, 200)}

    single, blocks = (skills(row, reference, Bootstrap(block))[0].error for block in (1, 4))

    assert blocks > 1.3 * single


def test_the_error_of_independent_losses_is_that_of_their_mean() -> None:
    losses = np.random.default_rng(3).exponential(size=400)

    found = skills({"A": scores(losses, 400)}, {"A": scores(1.0, 400)}, Bootstrap(1))[0]

    assert found.error == pytest.approx(100 * losses.std() / 20, rel=0.1)


def test_coverage_counts_the_outcomes_of_the_years_asked_for() -> None:
    early, late = scores(1.0, 40, "2019-01-01"), scores(1.0, 40, "2020-01-05")
    late.inside[:30] = 0.0
    late.inside[30:, :, 1] = np.nan

    found = coverages({"A": early, "B": late}, BOOTSTRAP, (2020,))

    assert found[0][0].value == pytest.approx(25.0)
    assert found[0][1].value == pytest.approx(0.0)
    assert coverages({"A": early, "B": late}, BOOTSTRAP, (2019,))[0][0].value == pytest.approx(100.0)


def test_the_share_counts_tickers_not_forecasts() -> None:
    row, other = {"A": scores(1.0), "B": scores(9.0, 5)}, {"A": scores(2.0), "B": scores(8.0, 5)}

    assert share_better(row, other) == (50.0,) * len(STEPS)


def test_scores_on_some_dates_are_those_of_their_origins() -> None:
    one = scores(np.arange(40.0))

    kept = one.on(one.sessions[2::5])

    assert kept.sessions.tolist() == one.sessions[2::5].tolist()
    assert kept.crps[:, 0].tolist() == np.arange(2.0, 40.0, 5).tolist()
    assert len(kept.inside) == 8
