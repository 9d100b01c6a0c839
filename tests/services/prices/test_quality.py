"""Warnings about prices: each says what is wrong with the sessions that a forecast uses, and sound prices give none."""

from datetime import date

import numpy as np
import pytest

from models.base import Bars
from services.prices.calendars import sessions_between
from services.prices.cleaning import clean
from services.prices.quality import estimated_warning, price_warnings
from services.prices.series import Defects, PriceHistory, Sessions
from tests.fakes import random_walk

DAYS = sessions_between("XNYS", date(2024, 1, 2), date(2024, 2, 29))  # 41 sessions, holidays left out
CLOSE = 3


def history_of(
    bars: Bars, days: Sessions = DAYS, ticker: str = "AAPL", *, stale: bool = False, **defects: dict[str, Sessions]
) -> PriceHistory:
    return PriceHistory(clean(ticker, days, bars)[0], "test", stale, Defects(**defects))


def sound() -> Bars:
    return random_walk(len(DAYS))


def test_sound_prices_give_no_warning() -> None:
    assert price_warnings(history_of(sound()), 20) == ()


def test_stale_prices_say_where_they_end() -> None:
    (warning,) = price_warnings(history_of(sound(), stale=True), 20)

    assert warning == "prices end on 2024-02-29; newer ones are not available"


def test_rows_left_out_of_the_window_are_counted_by_reason() -> None:
    dropped = {"missing": DAYS[[0, -4]], "not_positive": DAYS[[-3, -2]], "duplicate": DAYS[[-1]]}

    (warning,) = price_warnings(history_of(sound(), dropped=dropped), 20)

    assert warning == ("left out of the last 20 sessions: 1 row without a close, 2 rows with a close of zero or less")


def test_cells_repaired_in_the_window_are_counted_by_column() -> None:
    repaired = {"open": DAYS[[0, -4, -3]], "volume": DAYS[[-1]], "order": DAYS[[-2]]}

    (warning,) = price_warnings(history_of(sound(), repaired=repaired), 20)

    assert warning == "unusable values, treated as unknown, in the last 20 sessions: open on 2, volume on 1"


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ([30], ("the session of 2024-02-14 is missing",)),
        ([30, 33], ("2 sessions between 2024-02-14 and 2024-02-20 are missing",)),
        ([10], ()),  # before the window
    ],
)
def test_sessions_of_the_window_without_a_row_are_missing(absent: list[int], expected: tuple[str, ...]) -> None:
    kept = np.delete(np.arange(len(DAYS)), absent)

    assert price_warnings(history_of(sound()[kept], DAYS[kept]), 20) == expected


def test_a_session_whose_row_was_left_out_is_not_missing_too() -> None:
    kept = np.delete(np.arange(len(DAYS)), 30)

    (warning,) = price_warnings(history_of(sound()[kept], DAYS[kept], dropped={"contradictory": DAYS[[30]]}), 20)

    assert warning == "left out of the last 20 sessions: 1 row with several closes for one date"


def test_pairs_have_no_sessions_that_could_be_missing() -> None:
    kept = np.delete(np.arange(len(DAYS)), 30)

    assert price_warnings(history_of(sound()[kept], DAYS[kept], ticker="EURUSD=X"), 20) == ()


def test_sessions_without_a_trade_at_the_end_and_before_are_told_apart() -> None:
    bars = sound()
    bars[25] = [*[bars[24, CLOSE]] * 4, 0.0]
    one, several = bars.copy(), bars.copy()
    one[-1:] = [*[bars[-2, CLOSE]] * 4, 0.0]
    several[-3:] = [*[bars[-4, CLOSE]] * 4, 0.0]
    older = "the price is older than 2024-02-29, so the ranges are wider"

    assert price_warnings(history_of(bars), 20) == ("no trades in 1 of the last 20 sessions",)
    assert price_warnings(history_of(one), 10) == (f"no trades in the last session: {older}",)
    assert price_warnings(history_of(several), 20) == (
        f"no trades in the last 3 sessions: {older}",
        "no trades in 4 of the last 20 sessions",
    )


def test_bars_of_one_price_that_traded_have_no_range() -> None:
    bars = sound()
    bars[[2, 30, 35], :CLOSE] = bars[[2, 30, 35], CLOSE, None]

    (warning,) = price_warnings(history_of(bars), 20)

    assert warning == (
        "open, high, low and close are equal in 2 of the last 20 sessions: their volatility is computed from closes"
    )


@pytest.mark.parametrize(
    ("factors", "warning"),
    [
        ((100.0, 100.0), "by a factor of 100 between 2024-01-08 and 2024-01-09"),
        ((0.01, 0.01), "by a factor of 100 between 2024-01-08 and 2024-01-09"),
        ((3.0, 9.0), "by a factor of 9 between 2024-01-08 and 2024-01-10"),
        ((8.1, 8.1), "by a factor of 8.1 between 2024-01-08 and 2024-01-09"),
        ((7.9, 7.9), None),
    ],
)
def test_a_jump_within_two_sessions_is_found_anywhere(factors: tuple[float, float], warning: str | None) -> None:
    bars = np.full((len(DAYS), 5), 20.0) * [1.0, 1.01, 0.99, 1.0, 1.0]
    bars[5] *= factors[0]
    bars[6:] *= factors[1]

    found = price_warnings(history_of(bars), 20)

    expected = () if warning is None else (f"the close changes {warning}: check for a change of unit",)
    assert tuple(one.partition(" or an unadjusted split")[0] for one in found) == expected


def test_a_history_of_one_session_has_no_jump() -> None:
    assert price_warnings(history_of(sound()[-1:], DAYS[-1:]), 20) == ()


def test_sessions_past_the_end_of_a_calendar_are_said_to_be_estimated() -> None:
    assert estimated_warning("XBOM").startswith(
        "sessions after 2026-12-31 are estimated, because the XBOM calendar ends there"
    )
