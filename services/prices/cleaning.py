"""Turn the rows of a source into a valid series.

A bad cell becomes unknown, a bad row is dropped, and both are counted. No other file repairs prices, and nothing is
filled in, moved or smoothed.
"""

from collections.abc import Iterable
from datetime import date

import numpy as np
from numpy.typing import ArrayLike, NDArray

from errors import PricesInvalid
from services.prices.exchanges import exchange_of
from services.prices.series import COLUMNS, FLAT_TOLERANCE, Defects, PriceHistory, PriceSeries, RawBars, Sessions

PLAUSIBLE = (1e-15, 1e15)  # prices: beyond, arithmetic on them leaves the range of numbers
FARTHEST = 5.0  # a high five times the close, or a low a fifth of it, is a misprint
ROUNDING = 1e-5  # relative: a high this little below the close is raised to it, and not counted
MAX_BAD_SHARE = 0.5  # of the rows in the sessions that a request uses

_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(5)
# rows that had no usable price; the others (duplicates, ghosts, future days) were no sessions
UNUSABLE = ("missing", "not_positive", "implausible", "contradictory")

_Bars = NDArray[np.float64]
_Mask = NDArray[np.bool_]


def clean(
    ticker: str,
    sessions: Iterable[date] | Sessions,
    bars: ArrayLike,
    currency: str | None = None,
    exchange: str | None = None,
) -> tuple[PriceSeries, Defects]:
    """A valid series from raw rows, and what was wrong with them.

    A row stays when its close is finite, positive and plausible. An open, high or low that is missing, not positive,
    or outside the bar becomes NaN; a missing or negative volume becomes zero. Of rows with one date and the same
    close one stays; rows with one date and different closes contradict each other, and none of them stays.

    Args:
        ticker: exchange symbol.
        sessions: one day per row, in any order.
        bars: open, high, low, close, volume, shape (n, 5); NaN where unknown.
        currency: ISO code, where known.
        exchange: name of the trading calendar; by default that of the ticker's suffix.

    Raises:
        PricesInvalid: not a single row is usable.
        UnknownExchange: no exchange is given and the ticker does not imply one.
    """
    days = np.array(sessions if isinstance(sessions, np.ndarray) else list(sessions), dtype="datetime64[D]")
    rows = np.array(bars, dtype=np.float64).reshape(-1, len(COLUMNS))
    dropped: dict[str, Sessions] = {}
    repaired: dict[str, Sessions] = {}

    days, rows = _with_usable_closes(days, rows, dropped)
    days, rows = _sorted(days, rows, repaired)
    days, rows = _unique(days, rows, dropped)
    if not days.size:
        why = ", ".join(f"{reason}: {found.size}" for reason, found in dropped.items()) or "no rows at all"
        raise PricesInvalid(f"no row of {ticker} has a usable close ({why})", ticker=ticker)
    _forget_bad_cells(days, rows, repaired)

    rows.setflags(write=False)
    days.setflags(write=False)
    series = PriceSeries(ticker, exchange or exchange_of(ticker), days, rows, currency)
    return series, Defects(dropped, repaired)


def clean_raw(ticker: str, raw: RawBars) -> tuple[PriceSeries, Defects]:
    """``clean``, with the trading calendar from the source's listing."""
    return clean(ticker, raw.sessions, raw.bars, raw.currency, exchange_of(ticker, raw.listing))


def validate_completeness(history: PriceHistory) -> None:
    """Refuse a history when more than half of the rows between its first and last session had no usable price.

    Pass the sessions that a request uses, because bad rows of another decade do not matter.

    Raises:
        PricesInvalid: says how many rows were left out, and why.
    """
    if not len(history.series):
        return
    counts = history.defects.within(history.series.first_session, history.as_of).n_dropped
    bad = {reason: counts[reason] for reason in UNUSABLE if reason in counts}
    n_bad, n_rows = sum(bad.values()), sum(bad.values()) + len(history.series)
    if n_bad > MAX_BAD_SHARE * n_rows:
        why = ", ".join(f"{reason}: {count}" for reason, count in bad.items())
        raise PricesInvalid(
            f"{n_bad} of the {n_rows} rows of {history.series.ticker} from {history.series.first_session} to "
            f"{history.as_of} have no usable close ({why}); at most {MAX_BAD_SHARE:.0%} may be missing",
            ticker=history.series.ticker,
        )


def _with_usable_closes(days: Sessions, rows: _Bars, dropped: dict[str, Sessions]) -> tuple[Sessions, _Bars]:
    close = rows[:, _CLOSE]
    reasons = {
        "undated": np.isnat(days),
        "missing": ~np.isfinite(close),
        "not_positive": close <= 0,
        "implausible": (close < PLAUSIBLE[0]) | (close > PLAUSIBLE[1]),
    }
    kept = np.ones(days.size, dtype=bool)
    for reason, bad in reasons.items():
        _record(dropped, reason, days[bad & kept])
        kept &= ~bad
    return days[kept], rows[kept]


def _sorted(days: Sessions, rows: _Bars, repaired: dict[str, Sessions]) -> tuple[Sessions, _Bars]:
    falling = np.append(False, np.diff(days) < np.timedelta64(0, "D"))
    if not falling.any():
        return days, rows
    newest_first = (np.diff(days) <= np.timedelta64(0, "D")).all()  # a whole file in descending order is no defect
    if not newest_first:
        _record(repaired, "order", days[falling])
    order = np.argsort(days, kind="stable")
    return days[order], rows[order]


def _unique(days: Sessions, rows: _Bars, dropped: dict[str, Sessions]) -> tuple[Sessions, _Bars]:
    """One row per day: the last of rows that agree on the close, none of rows that do not."""
    if not (days[1:] == days[:-1]).any():
        return days, rows
    _, place = np.unique(days, return_inverse=True)
    highest = np.full(place.max() + 1, -np.inf)
    lowest = np.full(place.max() + 1, np.inf)
    np.maximum.at(highest, place, rows[:, _CLOSE])
    np.minimum.at(lowest, place, rows[:, _CLOSE])
    contradictory = (highest > lowest * (1 + FLAT_TOLERANCE))[place]
    last_of_day = np.append(days[1:] != days[:-1], True)
    _record(dropped, "contradictory", days[contradictory])
    _record(dropped, "duplicate", days[~contradictory & ~last_of_day])
    kept = last_of_day & ~contradictory
    return days[kept], rows[kept]


def _forget_bad_cells(days: Sessions, rows: _Bars, repaired: dict[str, Sessions]) -> None:
    """Set cells to NaN, in place, that cannot be right given the close."""
    close = rows[:, _CLOSE]
    with np.errstate(invalid="ignore", over="ignore"):
        for column in (_OPEN, _HIGH, _LOW):
            cell = rows[:, column]
            far = (cell > FARTHEST * close) | (cell * FARTHEST < close)
            _forget(days, rows, column, ~np.isfinite(cell) | (cell <= 0) | far, repaired)
        _forget(days, rows, _HIGH, rows[:, _HIGH] < close * (1 - ROUNDING), repaired)
        _forget(days, rows, _LOW, rows[:, _LOW] > close * (1 + ROUNDING), repaired)
        opened = rows[:, _OPEN]
        outside = (opened > rows[:, _HIGH] * (1 + ROUNDING)) | (opened < rows[:, _LOW] * (1 - ROUNDING))
        _forget(days, rows, _OPEN, outside, repaired)
        volume = rows[:, _VOLUME]
        unknown = ~np.isfinite(volume)
        _record(repaired, "volume", days[(volume < 0) | (unknown & ~np.isnan(volume))])
        rows[unknown | (volume < 0), _VOLUME] = 0.0
    known = np.fmax(rows[:, _OPEN], close), np.fmin(rows[:, _OPEN], close)
    rows[:, _HIGH] = np.where(np.isnan(rows[:, _HIGH]), np.nan, np.maximum(rows[:, _HIGH], known[0]))
    rows[:, _LOW] = np.where(np.isnan(rows[:, _LOW]), np.nan, np.minimum(rows[:, _LOW], known[1]))


def _forget(days: Sessions, rows: _Bars, column: int, bad: _Mask, repaired: dict[str, Sessions]) -> None:
    name = COLUMNS[column].lower()
    if bad.any() and not np.isnan(rows[:, column]).all():  # a column that was not supplied at all is no defect
        before = repaired.get(name, days[:0])
        repaired[name] = np.concatenate([before, days[bad]])
        rows[bad, column] = np.nan


def _record(report: dict[str, Sessions], reason: str, days: Sessions) -> None:
    if days.size:
        report[reason] = days
