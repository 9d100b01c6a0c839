"""Warnings about the prices behind a forecast, as sentences."""

from collections.abc import Iterator, Mapping
from datetime import date

import numpy as np

from models.trading import idle_sessions, is_flat, is_untraded
from services.prices.calendars import last_known_day, sessions_between
from services.prices.exchanges import KINDS
from services.prices.series import Defects, PriceHistory, Sessions, to_date

JUMP = np.log(
    8.0
)  # within two sessions: markets do not move so far; a change of unit (pence to pounds) or a split does

_DROPPED = {
    "missing": "without a close",
    "not_positive": "with a close of zero or less",
    "implausible": "with a close beyond any price",
    "contradictory": "with several closes for one date",
    "future": "of a future date",
    "undated": "without a date",
}


def price_warnings(history: PriceHistory, lookback: int) -> tuple[str, ...]:
    """Warnings about missing, repaired or suspect prices in the last ``lookback`` sessions of a history.

    Price jumps are reported anywhere in ``history``, so pass only the sessions that are used.
    """
    window = history.tail(lookback)
    since = window.series.first_session
    recent = history.defects.within(since, date.max)
    found = [*_stale(history), *_left_out(recent, len(window.series)), *_missing(window, recent)]
    return (*found, *_repaired(recent, len(window.series)), *_without_range(window), *_jumps(history))


def estimated_warning(exchange: str) -> str:
    """The warning about sessions past the end of a calendar."""
    return (
        f"sessions after {last_known_day(exchange)} are estimated, because the {exchange} calendar ends there: "
        "holidays that move from year to year are not known"
    )


def _stale(history: PriceHistory) -> Iterator[str]:
    if history.stale:
        yield f"prices end on {history.as_of}; newer ones are not available"


def _left_out(defects: Defects, n_sessions: int) -> Iterator[str]:
    counts = {reason: count for reason, count in defects.n_dropped.items() if reason in _DROPPED}
    if counts:
        rows = ", ".join(f"{count} {_rows(count)} {_DROPPED[reason]}" for reason, count in counts.items())
        yield f"left out of the last {n_sessions} sessions: {rows}"


def _missing(window: PriceHistory, defects: Defects) -> Iterator[str]:
    """Warn about sessions of a stock exchange without a row."""
    series = window.series
    if series.exchange in KINDS:  # pairs and futures: their hours vary, and so does what sources call a day
        return
    expected = sessions_between(series.exchange, series.first_session, series.last_session)
    dropped = [*defects.dropped.values()]
    seen = np.concatenate([series.sessions, *dropped]) if dropped else series.sessions
    absent: Sessions = expected[~np.isin(expected, seen)]
    if absent.size == 1:
        yield f"the session of {to_date(absent[0])} is missing"
    elif absent.size:
        yield f"{absent.size} sessions between {to_date(absent[0])} and {to_date(absent[-1])} are missing"


def _repaired(defects: Defects, n_sessions: int) -> Iterator[str]:
    counts: Mapping[str, int] = {column: count for column, count in defects.n_repaired.items() if column != "order"}
    if counts:
        cells = ", ".join(f"{column} on {count}" for column, count in counts.items())
        yield f"unusable values, treated as unknown, in the last {n_sessions} sessions: {cells}"


def _without_range(window: PriceHistory) -> Iterator[str]:
    bars = window.series.bars
    untraded = is_untraded(bars)
    idle = int(idle_sessions(bars, np.array([len(bars) - 1]))[0])
    n_flat, n_untraded = int((is_flat(bars) & ~untraded).sum()), int(untraded.sum())
    if idle:
        yield (
            f"no trades in the last {_sessions(idle)}: the price is older than {window.as_of}, so the ranges are wider"
        )
    if n_untraded > idle:
        yield f"no trades in {n_untraded} of the last {len(bars)} sessions"
    if n_flat:
        yield (
            f"open, high, low and close are equal in {n_flat} of the last {len(bars)} sessions: "
            "their volatility is computed from closes"
        )


def _jumps(history: PriceHistory) -> Iterator[str]:
    logs, sessions = np.log(history.series.close), history.series.sessions
    for apart in (1, 2):
        moves = np.abs(logs[apart:] - logs[:-apart])
        if moves.size and moves.max() > JUMP:
            row = int(moves.argmax())
            factor = float(np.exp(moves[row]))
            yield (
                f"the close changes by a factor of {factor:.3g} between {to_date(sessions[row])} and "
                f"{to_date(sessions[row + apart])}: check for a change of unit or an unadjusted split"
            )
            return


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _sessions(count: int) -> str:
    return "session" if count == 1 else f"{count} sessions"
