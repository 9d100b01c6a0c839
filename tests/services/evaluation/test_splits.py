from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InsufficientHistory
from services.evaluation.splits import MIN_CALIBRATION, MIN_FIT, MIN_TEST, sessions_needed, split_origins

lookbacks = st.integers(10, 250)
shares = st.floats(0.05, 0.95)


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


def test_train_size_is_the_share_of_windows_before_the_test_part() -> None:
    split = split_origins("PETR4.SA", 1626, lookback=60, train_size=0.85)

    assert (len(split.train), len(split.test)) == (1331, 235)


def test_a_long_history_does_not_waste_sessions_on_calibration() -> None:
    split = split_origins("X", 10_000, lookback=60, train_size=0.8)

    assert len(split.calibration) == 500
