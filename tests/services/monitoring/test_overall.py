"""Coverage and skill of all served forecasts, and how often their alarms fire by chance."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from schemas.common import DEFAULT_LEVELS
from schemas.realised import ForecastOutcome, SessionScores
from services.monitoring.overall import SIGNIFICANT_Z, coverage_of, measure_overall, skill_of
from telemetry.measures import COVERAGE_DEVIATION, COVERAGE_Z, SKILL, SKILL_Z
from tests.fakes import RecordingMeter

FIRST = date(2026, 1, 1)
LAST = 100.0
Z = norm.ppf(0.5 + np.array(DEFAULT_LEVELS) / 2)


def outcome(
    shift: float, median: float = LAST, half: float = 1.0, crps: float = 0.5, *, step: int = 1
) -> ForecastOutcome:
    """A close of 100 + shift after a forecast whose quantiles are those of N(median, half)."""
    z = Z * half
    return ForecastOutcome(
        model_id="walk-1",
        model="persistence",
        origin=FIRST,
        step=step,
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        last=LAST,
        actual=LAST + shift,
        median=median,
        levels=DEFAULT_LEVELS,
        lower=tuple(median - z),
        upper=tuple(median + z),
        crps=crps,
        persistence_crps=abs(shift),
        pit=0.5,
    )


def sessions_of(
    shifts: NDArray[np.float64], median: float = LAST, half: float = 1.0, crps: float = 0.5
) -> list[list[ForecastOutcome]]:
    """One list of outcomes a session; ``shifts`` of shape (n_sessions, n_tickers)."""
    return [[outcome(shift, median, half, crps) for shift in row] for row in shifts.tolist()]


def scores_of(sessions: Sequence[Sequence[ForecastOutcome]]) -> list[SessionScores]:
    return [
        SessionScores(
            ticker="WALK", session=FIRST + timedelta(days=k), scored_at=datetime(2026, 1, 1, tzinfo=UTC), pairs=pairs
        )
        for k, pairs in enumerate(map(tuple, sessions))
    ]


def together(seed: int, n_sessions: int = 60, n_tickers: int = 20, correlation: float = 0.5) -> NDArray[np.float64]:
    """Shifts of tickers that move together, each N(0, 1)."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(n_sessions, 1))
    own = random.normal(size=(n_sessions, n_tickers))
    shifts: NDArray[np.float64] = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    return shifts


def test_coverage_and_z_of_a_single_ticker_can_be_checked_by_hand() -> None:
    shifts = np.where(np.arange(100) % 10 < 7, 0.0, 9.0)[:, None]  # 70 of 100 inside

    found = coverage_of(sessions_of(shifts), 0.8)

    assert found is not None
    assert found.share == pytest.approx(0.7)
    assert -2.5 <= found.z < 0  # (70 − 80) / √(100 · 0.8 · 0.2) = −2.5
    assert found.deviation == 0


def test_closes_that_alternate_count_as_independent_ones() -> None:
    shifts = np.where(np.arange(100) % 4 == 1, 9.0, 0.0)[:, None]

    found = coverage_of(sessions_of(shifts), 0.8)

    assert found is not None
    assert found.z == pytest.approx((75 - 80) / np.sqrt(100 * 0.8 * 0.2))


@pytest.mark.parametrize(("half", "deviates"), [(0.5, True), (1.0, False), (3.0, True)])
def test_a_deviation_counts_where_chance_does_not_explain_it(half: float, deviates: bool) -> None:
    found = coverage_of(sessions_of(together(0), half=half), 0.8)

    assert found is not None
    assert (found.deviation > 0.1) == deviates
    assert (found.deviation == 0) == (not deviates)
    assert (abs(found.z) >= SIGNIFICANT_Z) == deviates


def test_tickers_that_move_together_raise_few_false_alarms() -> None:
    alarms = 0
    for seed in range(100):
        sessions = sessions_of(together(seed))
        alarms += any((found := coverage_of(sessions, level)) and found.deviation > 0 for level in DEFAULT_LEVELS)

    assert alarms <= 3  # as if all were independent, it would be about 20


@pytest.mark.parametrize(("n_sessions", "n_tickers"), [(19, 10), (49, 1), (1, 500)])
def test_few_closes_or_few_sessions_say_nothing(meter: RecordingMeter, n_sessions: int, n_tickers: int) -> None:
    measure_overall(scores_of(sessions_of(together(0, n_sessions, n_tickers), half=0.1)), meter)

    assert meter.taken == []


@pytest.mark.parametrize(("n_sessions", "n_tickers"), [(20, 3), (50, 1), (25, 2)])
def test_fifty_closes_of_twenty_sessions_are_enough(meter: RecordingMeter, n_sessions: int, n_tickers: int) -> None:
    measure_overall(scores_of(sessions_of(together(0, n_sessions, n_tickers), median=100.5)), meter)

    assert len(meter.values(COVERAGE_Z)) == len(meter.values(SKILL)) == 2


def test_only_first_steps_are_measured(meter: RecordingMeter) -> None:
    measure_overall(scores_of([[outcome(9.0, step=2)] * 5 for _ in range(60)]), meter)

    assert meter.taken == []


def test_a_level_that_no_forecast_has_is_not_measured() -> None:
    assert coverage_of(sessions_of(together(0)), 0.5) is None


@pytest.mark.parametrize(("median", "sign"), [(99.0, -1), (101.0, -1), (100.0, 0)])
def test_a_worse_median_than_no_change_has_negative_skill(median: float, sign: int) -> None:
    found = skill_of(sessions_of(together(0), median=median), "mae")

    if sign == 0:  # the same forecast
        assert found is None
        return
    assert found is not None
    assert found.value < 0
    assert found.z < -SIGNIFICANT_Z


def test_where_no_price_moved_there_is_no_skill() -> None:
    assert skill_of([[outcome(0.0, median=LAST + number % 7)] * 5 for number in range(60)], "mae") is None


def test_crps_has_a_skill_of_its_own() -> None:
    better = skill_of(sessions_of(together(0), crps=0.2), "crps")
    worse = skill_of(sessions_of(together(0), crps=1.5), "crps")

    assert better is not None
    assert worse is not None
    assert better.value > 0 > worse.value
    assert better.z > SIGNIFICANT_Z > -SIGNIFICANT_Z > worse.z


def test_the_price_of_a_ticker_does_not_weigh_its_skill() -> None:
    cheap = sessions_of(together(0), median=99.0)
    dear = [[_times(pair, 1000.0) for pair in pairs] for pairs in cheap]

    one, other = skill_of(cheap, "mae"), skill_of(dear, "mae")
    assert one is not None
    assert other is not None
    assert (one.value, one.z) == pytest.approx((other.value, other.z))


def _times(pair: ForecastOutcome, factor: float) -> ForecastOutcome:
    return pair.model_copy(update={name: factor * getattr(pair, name) for name in ("last", "actual", "median")})


def test_every_figure_is_recorded(meter: RecordingMeter) -> None:
    measure_overall(scores_of(sessions_of(together(0), half=0.5, median=100.5)), meter)

    assert [labels["level"] for labels in meter.labels(COVERAGE_Z)] == ["0.8", "0.95"]
    assert all(deviation > 0.1 for deviation in meter.values(COVERAGE_DEVIATION))
    assert [labels["measure"] for labels in meter.labels(SKILL)] == ["mae", "crps"]
    assert len(meter.values(SKILL_Z)) == 2
