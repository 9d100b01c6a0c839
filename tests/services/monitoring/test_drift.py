"""Ranges against their own past: what counts as a range, and sessions that did not trade."""

import numpy as np
import pytest

from errors import InsufficientHistory
from models.base import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from services.monitoring.drift import EARLIER, MIN_WINDOWS, RECENT, input_drift, range_ratios
from tests.fakes import random_walk

N = RECENT + EARLIER + MIN_WINDOWS


def log_ranges(bars: Bars) -> list[float]:
    return [
        float(np.log(max(bar[HIGH], bar[CLOSE], before) / min(bar[LOW], bar[CLOSE], before)))
        for before, bar in zip(bars[:-1, CLOSE], bars[1:], strict=True)
    ]


def halted(bars: Bars, *rows: int) -> Bars:
    """The bars with a price that stands still, without volume, in these rows."""
    stopped = bars.copy()
    for row in sorted(rows):
        stopped[row, : CLOSE + 1], stopped[row, VOLUME] = stopped[row - 1, CLOSE], 0.0
    return stopped


def test_ratios_equal_a_naive_loop() -> None:
    bars = random_walk(200)
    ranges = log_ranges(bars)

    naive = [
        np.mean(ranges[end - RECENT : end]) / np.mean(ranges[end - RECENT - EARLIER : end - RECENT])
        for end in range(RECENT + EARLIER, len(ranges) + 1)
    ]

    assert range_ratios(bars).tolist() == pytest.approx(naive)


def test_sessions_without_trading_are_left_out_of_both_means() -> None:
    bars = halted(random_walk(1 + RECENT + EARLIER), 7, 30, 31, 63, 65)
    ranges = np.array(log_ranges(bars))
    ranges[[6, 29, 30, 62, 64]] = np.nan

    (ratio,) = range_ratios(bars)

    assert ratio == pytest.approx(np.nanmean(ranges[EARLIER:]) / np.nanmean(ranges[:EARLIER]))


def test_a_halt_does_not_read_as_calm() -> None:
    bars = random_walk(N)
    drifting = halted(bars, *range(N - 4, N))

    assert range_ratios(drifting)[-1] > 0.3


def test_a_price_that_is_traded_but_stands_still_has_a_range_of_zero() -> None:
    bars = random_walk(1 + RECENT + EARLIER)
    bars[-RECENT:, : CLOSE + 1] = bars[-RECENT - 1, CLOSE]

    assert range_ratios(bars).tolist() == [0.0]


def test_a_locked_bar_counts_its_move() -> None:
    bars = random_walk(1 + RECENT + EARLIER)
    bars[-1, : CLOSE + 1], bars[-1, VOLUME] = 1.1 * bars[-2, CLOSE], 0.0
    ranges = log_ranges(bars)

    assert ranges[-1] == pytest.approx(np.log(1.1))
    assert range_ratios(bars).tolist() == pytest.approx([np.mean(ranges[-RECENT:]) / np.mean(ranges[:EARLIER])])


def test_where_high_and_low_are_unknown_the_move_of_the_close_counts() -> None:
    bars = random_walk(1 + RECENT + EARLIER)
    bars[:, [OPEN, HIGH, LOW]] = np.nan
    moves = np.abs(np.diff(np.log(bars[:, CLOSE])))

    assert range_ratios(bars).tolist() == pytest.approx([moves[-RECENT:].mean() / moves[:EARLIER].mean()])


def test_during_a_halt_the_newest_ratio_is_that_before_it() -> None:
    bars = random_walk(N + 20)

    before = input_drift("WALK", halted(bars[: N + 14], N + 13))
    during = input_drift("WALK", halted(bars, *range(N + 9, N + 20)))
    known = range_ratios(halted(bars, *range(N + 9, N + 20)))

    assert np.isnan(known[-1])
    assert during.ratio == known[~np.isnan(known)][-1]
    assert np.isfinite(before.ratio)


def test_a_ticker_that_hardly_ever_trades_has_no_status() -> None:
    bars = halted(random_walk(N), *range(100, N))

    with pytest.raises(InsufficientHistory) as refusal:
        input_drift("WALK", bars)

    needed, found = refusal.value.context["needed"], refusal.value.context["found"]
    assert needed == N
    assert isinstance(found, int)
    assert found < N
