from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InsufficientHistory
from services.evaluation.splits import (
    MIN_CALIBRATION,
    MIN_FIT,
    MIN_TEST,
    Split,
    sessions_needed,
    split_origins,
    split_together,
    split_train,
    split_universe,
)
from services.prices.series import Sessions

lookbacks = st.integers(10, 250)
shares = st.floats(0.05, 0.95)


def days(first: int, stop: int) -> Sessions:
    return np.arange(first, stop).astype("datetime64[D]")


@given(lookback=lookbacks, train_size=shares, extra=st.integers(0, 5000))
def test_blocks_follow_each_other_without_gap_or_overlap(lookback: int, train_size: float, extra: int) -> None:
    n_sessions = sessions_needed(lookback, train_size) + extra

    split = split_origins("X", n_sessions, lookback, train_size)

    blocks = [split.fit, split.early_stopping, split.calibration, split.test]
    assert blocks[0].start == lookback - 1
    assert all(one.stop == following.start for one, following in pairwise(blocks))
    assert blocks[-1].stop == n_sessions - 1
    assert all(len(block) > 0 for block in blocks)


@given(lookback=lookbacks, train_size=shares)
def test_the_shortest_history_accepted_leaves_every_block_its_minimum(lookback: int, train_size: float) -> None:
    split = split_origins("X", sessions_needed(lookback, train_size), lookback, train_size)

    assert len(split.fit) + len(split.early_stopping) >= MIN_FIT
    assert len(split.calibration) >= MIN_CALIBRATION
    assert len(split.test) >= MIN_TEST


@given(lookback=lookbacks, train_size=shares)
def test_one_session_less_is_refused_with_needed_and_found(lookback: int, train_size: float) -> None:
    needed = sessions_needed(lookback, train_size)

    with pytest.raises(InsufficientHistory) as refusal:
        split_origins("X", needed - 1, lookback, train_size)

    assert refusal.value.context == {"needed": needed, "found": needed - 1}


@pytest.mark.parametrize(
    ("train_size", "windows"),
    [(0.65, 300), (0.29, 673), (0.95, 400), (0.9, 217)],  # 195 / 0.65, 195 / 0.29 = 672.4, 20 / 0.05, 195 / 0.9 = 216.7
)
def test_the_shortest_history_is_that_of_the_part_that_lacks_most(train_size: float, windows: int) -> None:
    assert sessions_needed(60, train_size) == 60 + windows


@given(lookback=lookbacks, n_windows=st.integers(MIN_FIT + MIN_CALIBRATION, 5000))
def test_without_a_test_part_no_block_reads_into_another_either(lookback: int, n_windows: int) -> None:
    split = split_train("X", lookback + n_windows, lookback)

    blocks = [split.fit, split.early_stopping, split.calibration, split.test]
    assert blocks[0].start == lookback - 1
    assert all(one.stop == following.start for one, following in pairwise(blocks))
    assert split.test == range(lookback + n_windows - 1, lookback + n_windows - 1)
    assert all(len(block) > 0 for block in blocks[:3])


def test_a_quarter_of_a_history_calibrates_and_15_percent_of_the_rest_stops_the_fit() -> None:
    # 1,000 windows of 60 sessions, from origin 59 to 1058; of 800 before a test part, 200 calibrate and 90 stop the fit
    whole = Split(range(59, 697), range(697, 809), range(809, 1059), range(1059, 1059))
    tested = Split(range(59, 569), range(569, 659), range(659, 859), range(859, 1059))

    assert split_train("X", 1060, lookback=60) == whole
    assert split_origins("X", 1060, lookback=60, train_size=0.8) == tested
    assert tested.train == range(59, 859)


def test_a_history_too_short_without_a_test_part_is_refused_with_needed_and_found() -> None:
    split_train("X", 60 + MIN_FIT + MIN_CALIBRATION, lookback=60)

    with pytest.raises(InsufficientHistory) as refusal:
        split_train("X", 59 + MIN_FIT + MIN_CALIBRATION, lookback=60)

    assert refusal.value.context == {"needed": 255, "found": 254}


def test_equal_histories_together_are_cut_as_each_alone() -> None:
    alone = split_origins("A", 10_000, lookback=60, train_size=0.8)
    sessions = {"A": days(0, 10_000), "B": days(0, 10_000)}

    assert split_together(sessions, lookback=60, train_size=0.8) == (alone, alone)
    assert split_universe(sessions, lookback=60, train_size=0.8) == {"A": alone, "B": alone}


def test_a_history_that_begins_after_the_fit_part_of_the_others_is_refused_or_left_out() -> None:
    # 1,000 origins from day 59 on, and 290 of the same days from 769 on: the fit part ends before day 59 + 774 - 116
    sessions = {"A": days(0, 1060), "B": days(710, 1060)}

    with pytest.raises(InsufficientHistory, match="B") as refusal:
        split_together(sessions, lookback=60, train_size=0.8)

    assert refusal.value.context == {"needed": 370, "found": 350}
    (only,) = split_universe(sessions, lookback=60, train_size=0.8).items()
    assert only == ("A", Split(range(59, 717), range(717, 801), range(801, 930), range(930, 1059)))


@pytest.mark.parametrize(("first", "kept"), [(648, {"A", "B"}), (649, {"A"})])
def test_a_history_with_20_origins_in_the_fit_part_is_kept(first: int, kept: set[str]) -> None:
    # together 1,352 origins, 270 of them calibrate; the fit part has 689, each day of B twice: (689 - 648) // 2 = 20
    sessions = {"A": days(0, 1060), "B": days(first, 1060)}

    assert set(split_universe(sessions, lookback=60, train_size=0.8)) == kept


def test_a_universe_is_made_of_the_histories_that_are_long_enough() -> None:
    needed = sessions_needed(60, 0.8)
    sessions = {"SHORT": days(0, needed - 1), "ENOUGH": days(0, needed), "SHORTER": days(0, 70)}

    assert set(split_universe(sessions, lookback=60, train_size=0.8)) == {"ENOUGH"}
    del sessions["ENOUGH"]
    with pytest.raises(InsufficientHistory, match="SHORT,") as refusal:
        split_universe(sessions, lookback=60, train_size=0.8)
    assert refusal.value.context == {"needed": needed, "found": needed - 1}


def test_train_size_is_the_share_of_windows_before_the_test_part() -> None:
    split = split_origins("PETR4.SA", 1626, lookback=60, train_size=0.85)

    assert (len(split.train), len(split.test)) == (1331, 235)


def test_a_long_history_does_not_waste_sessions_on_calibration() -> None:
    split = split_origins("X", 10_000, lookback=60, train_size=0.8)

    assert len(split.calibration) == 500
    assert len(split.early_stopping) == 250
