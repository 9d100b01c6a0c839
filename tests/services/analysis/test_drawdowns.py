from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.analysis.drawdowns import N_DEEPEST, drawdown_of, drawdowns

JANUARY = np.arange("2024-01-01", "2024-02-01", dtype="datetime64[D]")


def test_two_drawdowns_have_their_peak_trough_and_recovery() -> None:
    closes = np.array([10.0, 9.0, 10.0, 20.0, 15.0, 10.0, 16.0, 20.0])

    found = drawdowns(JANUARY[: closes.size], closes)

    deepest, other = found.deepest
    assert (deepest.peak, deepest.trough, deepest.recovery) == (date(2024, 1, 4), date(2024, 1, 6), date(2024, 1, 8))
    assert (deepest.depth, deepest.n_sessions_down, deepest.n_sessions) == (-0.5, 2, 4)
    assert (other.peak, other.trough, other.recovery) == (date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3))
    assert found.current == 0


def test_an_unrecovered_drawdown_has_no_recovery() -> None:
    found = drawdowns(JANUARY[:3], np.array([4.0, 1.0, 2.0]))

    assert found.deepest[0].recovery is None
    assert found.deepest[0].n_sessions == 2
    assert found.current == -0.5


def test_a_price_that_only_rises_has_no_drawdown() -> None:
    assert drawdowns(JANUARY[:3], np.array([1.0, 2.0, 3.0])).deepest == ()


@given(closes=arrays(float, st.integers(1, 31), elements=st.floats(1, 100)))
def test_drawdowns_equal_a_naive_loop(closes: np.ndarray) -> None:
    naive = [close / max(closes[: row + 1]) - 1 for row, close in enumerate(closes)]

    found = drawdowns(JANUARY[: closes.size], closes)

    assert drawdown_of(closes).tolist() == pytest.approx(naive)
    assert len(found.deepest) <= N_DEEPEST
    assert min((episode.depth for episode in found.deepest), default=0) == pytest.approx(min(naive))
    assert [episode.depth for episode in found.deepest] == sorted(episode.depth for episode in found.deepest)


@given(closes=arrays(float, st.integers(2, 31), elements=st.floats(1, 100)))
def test_episodes_do_not_overlap(closes: np.ndarray) -> None:
    found = sorted(drawdowns(JANUARY[: closes.size], closes).deepest, key=lambda episode: episode.peak)

    for one, other in pairwise(found):
        assert one.recovery is not None
        assert one.recovery <= other.peak
