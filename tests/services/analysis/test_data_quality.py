"""Defects of a series are found where they were planted, and nowhere else."""

from datetime import date

import numpy as np
import pytest

from services.analysis.data_quality import MAX_LISTED, data_quality, nearest_split, overnight_gaps, suspected_splits
from services.prices.cleaning import clean
from services.prices.series import PriceSeries
from tests.fakes import new_york_sessions, random_walk

N = 400
SESSIONS = new_york_sessions(N)


def _series(bars: np.ndarray, sessions: np.ndarray = SESSIONS, ticker: str = "WALK") -> PriceSeries:
    return clean(ticker, sessions, bars)[0]


def test_an_ordinary_walk_has_no_defects() -> None:
    found = data_quality(_series(random_walk(N)))

    assert (found.n_missing_sessions, found.n_unexpected_sessions, found.n_overnight_gaps) == (0, 0, 0)
    assert found.suspected_splits == ()
    assert found.exchange == "XNYS"


def test_missing_sessions_are_listed_as_runs() -> None:
    keep = np.ones(N, dtype=bool)
    keep[[10, 11, 12, 50]] = False

    found = data_quality(_series(random_walk(N)[keep], SESSIONS[keep]))

    assert found.n_missing_sessions == 4
    assert [(run.first, run.last, run.n_sessions) for run in found.missing] == [
        (SESSIONS[10].item(), SESSIONS[12].item(), 3),
        (SESSIONS[50].item(), SESSIONS[50].item(), 1),
    ]


def test_a_session_on_a_holiday_is_unexpected() -> None:
    sessions = np.append(SESSIONS, np.datetime64("2010-07-05"))  # Independence Day, observed

    found = data_quality(_series(random_walk(N + 1), sessions))

    assert found.n_unexpected_sessions == 1
    assert found.n_missing_sessions == 0


def test_days_before_the_calendar_begins_are_neither_missing_nor_unexpected() -> None:
    sessions = np.arange("1980-01-01", "1980-04-10", dtype="datetime64[D]")

    found = data_quality(_series(random_walk(sessions.size), sessions))

    assert (found.n_missing_sessions, found.n_unexpected_sessions) == (0, 0)


@pytest.mark.parametrize(
    ("factor", "name"), [(1 / 2, "1:2"), (2 / 3, "2:3"), (1 / 10, "1:10"), (3, "3:1"), (20, "20:1")]
)
def test_an_unadjusted_split_is_suspected(factor: float, name: str) -> None:
    bars = random_walk(N)
    bars[200:, :4] *= factor

    (found,) = suspected_splits(_series(bars))

    assert (found.session, found.near) == (SESSIONS[200].item(), name)
    assert found.ratio == pytest.approx(factor, rel=0.05)


def test_a_fall_by_a_fifth_is_a_gap_and_not_a_split() -> None:
    bars = random_walk(N)
    bars[200:, :4] *= 0.8

    assert suspected_splits(_series(bars)) == []
    assert [gap.session for gap in overnight_gaps(_series(bars))] == [SESSIONS[200].item()]


def test_halving_is_not_suspicious_in_a_series_that_often_halves() -> None:
    bars = random_walk(N, daily_volatility=0.7)

    assert suspected_splits(_series(bars)) == []


def test_an_overnight_gap_is_measured_in_daily_moves() -> None:
    bars = random_walk(N)
    bars[1:, 0] = bars[:-1, 3] * (1 + 1e-6 * (np.arange(N - 1) % 7))  # opens very near the previous close
    bars[200, 0] *= 1.005  # thousands of usual gaps, half a usual daily move

    assert overnight_gaps(_series(bars)) == []


def test_an_unknown_open_is_not_a_gap() -> None:
    bars = random_walk(N)
    bars[200, 0] = 0.0
    bars[300, 0] = bars[300, 1] = bars[299, 3] * 1.5

    gaps = overnight_gaps(_series(bars))

    assert [gap.session for gap in gaps] == [SESSIONS[300].item()]


@pytest.mark.parametrize("closes", [np.full(N, 100.0), 100.0 + np.arange(N) // 100], ids=["never", "seldom"])
def test_a_price_that_never_or_seldom_moves_is_not_suspicious(closes: np.ndarray) -> None:
    found = data_quality(_series(np.column_stack([closes] * 4 + [np.zeros(N)])))

    assert found.suspected_splits == ()
    assert found.n_missing_sessions == 0


def test_a_split_of_a_price_that_seldom_moves_is_suspected() -> None:
    closes = np.where(np.arange(N) < 200, 100.0, 50.0)

    (found,) = suspected_splits(_series(np.column_stack([closes] * 4 + [np.zeros(N)])))

    assert (found.session, found.near) == (SESSIONS[200].item(), "1:2")


def test_lists_are_cut_to_the_largest_and_counts_are_not() -> None:
    bars = random_walk(N)
    for row in range(20, 20 + 10 * (MAX_LISTED + 5), 10):
        bars[row, 0] = bars[row, 1] = bars[row - 1, 3] * (1.5 + row / 1000)

    found = data_quality(_series(bars))

    assert found.n_overnight_gaps == MAX_LISTED + 5
    assert len(found.overnight_gaps) == MAX_LISTED
    assert found.overnight_gaps[0].session == SESSIONS[70].item()
    assert [gap.session for gap in found.overnight_gaps] == sorted(gap.session for gap in found.overnight_gaps)


def test_usual_splits_are_named() -> None:
    assert [nearest_split(float(np.log(ratio))) for ratio in (2, 3, 5, 10, 1.5, 0.5, 1 / 3)] == [
        "2:1", "3:1", "5:1", "10:1", "3:2", "1:2", "1:3"
    ]  # fmt: skip
    assert nearest_split(0.0) is None


def test_real_series_miss_at_most_two_sessions_and_have_no_unadjusted_split(real: PriceSeries) -> None:
    found = data_quality(real)

    assert found.n_missing_sessions <= 2
    assert found.suspected_splits == ()
    assert all(run.first >= date(1999, 1, 1) for run in found.missing)
