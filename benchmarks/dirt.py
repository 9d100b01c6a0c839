"""Clean price series, and every kind of dirt that real ones have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from services.prices.calendars import sessions_between
from services.prices.sample import SampleSource
from services.prices.series import RawBars

LAST_KNOWN, NEXT = date(2026, 11, 25), date(2026, 11, 27)  # Thanksgiving lies between them
TICKS_A_DAY = 16
OPEN, HIGH, LOW, CLOSE, VOLUME = range(5)

Bars = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """Rows as a source might supply them, and the true closes.

    Attributes:
        rows: perhaps dirty.
        sessions, closes: the true ones, up to the session after LAST_KNOWN, shape (n + 1,).
        unit: the unit of the last row, as a multiple of that of the true closes.
    """

    rows: RawBars
    sessions: NDArray[np.datetime64]
    closes: NDArray[np.float64]
    unit: float = 1.0

    def close_of(self, day: str) -> float:
        """The true close of a session, in the unit of the last row."""
        return float(self.closes[np.searchsorted(self.sessions, np.datetime64(day))]) * self.unit


Dirt = Callable[[Case, Generator], Case]


def clean_case(rng: Generator, n_sessions: int) -> Case:
    """A series that ends on LAST_KNOWN: half of them real index prices, half with random fat-tailed volatility."""
    sessions = sessions_between("XNYS", date(2000, 1, 1), LAST_KNOWN)[-n_sessions:]
    bars = _real(rng, n_sessions + 1) if rng.random() < 0.5 else _simulated(rng, n_sessions + 1)
    return Case(RawBars(sessions, bars[:-1], "USD"), np.append(sessions, np.datetime64(NEXT)), bars[:, CLOSE])


def _real(rng: Generator, n_sessions: int) -> Bars:
    from datetime import UTC, datetime

    ticker = ("^GSPC", "^IXIC")[int(rng.integers(2))]
    bars = SampleSource().history(ticker, datetime(2020, 1, 1, tzinfo=UTC)).series.bars
    first = int(rng.integers(len(bars) - n_sessions))
    chosen = bars[first : first + n_sessions].copy()
    chosen[:, :VOLUME] *= np.exp(rng.normal(0, 2))
    return chosen


def _simulated(rng: Generator, n_sessions: int) -> Bars:
    log_volatility = np.empty(n_sessions)
    state = 0.0
    for row in range(n_sessions):
        state = 0.97 * state + rng.normal(0, 0.12)
        log_volatility[row] = state
    volatility = rng.uniform(0.006, 0.03) * np.exp(log_volatility)
    ticks = rng.standard_t(5, (n_sessions, TICKS_A_DAY)) * np.sqrt(3 / 5) * volatility[:, None] / np.sqrt(TICKS_A_DAY)
    path = np.cumsum(ticks.ravel()).reshape(ticks.shape) + np.log(rng.uniform(1, 1000))
    prices = np.exp(path)
    volume = rng.lognormal(12, 0.5, n_sessions)
    return np.column_stack([prices[:, 0], prices.max(1), prices.min(1), prices[:, -1], volume])


def zero_opens(case: Case, rng: Generator) -> Case:
    """Opens of zero on some or all days, as Yahoo has them for 1962 to 1982."""
    return _cells(case, OPEN, _some(rng, case), 0.0)


def bad_cells(case: Case, rng: Generator) -> Case:
    """Opens, highs and lows that are missing, negative, infinite or outside the bar."""
    for column in (OPEN, HIGH, LOW):
        value = rng.choice([np.nan, -1.0, np.inf, 1e-9, 1e12])
        case = _cells(case, column, _some(rng, case), float(value))
    return case


def bad_volumes(case: Case, rng: Generator) -> Case:
    """Volumes that are missing, negative or zero."""
    return _cells(case, VOLUME, _some(rng, case), float(rng.choice([np.nan, -5.0, 0.0])))


def nulls(case: Case, rng: Generator) -> Case:
    """Rows without any value, every eighth or at random."""
    rows = np.arange(len(case.rows.sessions)) % 8 == rng.integers(8) if rng.random() < 0.3 else _some(rng, case, 0.4)
    bars = case.rows.bars.copy()
    bars[rows] = np.nan
    return _with_bars(case, bars)


def negative_past(case: Case, _: Generator) -> Case:
    """The oldest sixth of the adjusted prices is negative, as dividends larger than the price make it."""
    bars = case.rows.bars.copy()
    bars[: len(bars) // 6, :VOLUME] *= -1
    return _with_bars(case, bars)


def duplicates(case: Case, rng: Generator) -> Case:
    """Some rows twice."""
    return _repeated(case, rng, factor=1.0)


def contradictions(case: Case, rng: Generator) -> Case:
    """Some dates twice, the second time with another share's prices."""
    return _repeated(case, rng, factor=float(rng.uniform(1.5, 5)))


def ghosts(case: Case, rng: Generator) -> Case:
    """Flat rows without volume on Saturdays, at the close before."""
    days, bars = case.rows.sessions, case.rows.bars
    weekday = (days.astype(np.int64) + 3) % 7
    before = np.flatnonzero((weekday == 4) & (rng.random(len(days)) < 0.5))
    closes = bars[before, CLOSE]
    flat = np.column_stack([closes, closes, closes, closes, np.zeros(len(before))])
    return _with_rows(case, np.concatenate([days, days[before] + 1]), np.concatenate([bars, flat]), sort=True)


def halts(case: Case, rng: Generator) -> Case:
    """Runs of sessions that repeat the close before, without volume; the price moves on behind them."""
    bars = case.rows.bars.copy()
    for _ in range(int(rng.integers(1, 4))):
        first, last = _run(rng, len(bars), 15)
        if rng.random() < 0.2:
            first, last = len(bars) - (last - first), len(bars)
        bars[first:last, :VOLUME] = bars[first - 1, CLOSE]
        bars[first:last, VOLUME] = 0.0
    return _with_bars(case, bars)


def locked(case: Case, rng: Generator) -> Case:
    """Sessions with one price: limit-locked, or only the settlement is on record."""
    rows = _some(rng, case, 0.5)
    if rng.random() < 0.5:
        rows[-int(rng.integers(1, 20)) :] = True
    bars = case.rows.bars.copy()
    bars[rows, :CLOSE] = bars[rows, CLOSE, None]
    return _with_bars(case, bars)


def late(case: Case, rng: Generator) -> Case:
    """Sessions that the source does not have yet."""
    kept = ~_some(rng, case, 0.1)
    kept[-int(rng.integers(1, 4)) - 1] = False
    return _with_rows(case, case.rows.sessions[kept], case.rows.bars[kept])


def unit_step(case: Case, rng: Generator) -> Case:
    """Prices in another unit from some session on, or for a few sessions: pence and pounds."""
    bars, factor = case.rows.bars.copy(), float(rng.choice([100.0, 0.01, 1000.0]))
    first, last = _run(rng, len(bars), 5)
    if rng.random() < 0.5:
        last = len(bars)
    bars[first:last, :VOLUME] *= factor
    return replace(_with_bars(case, bars), unit=case.unit * (factor if last == len(bars) else 1.0))


def readjusted(case: Case, rng: Generator) -> Case:
    """The whole history times one factor, down to the prices of the smallest coins."""
    factor = float(10.0 ** rng.uniform(-9, 6))
    bars = case.rows.bars.copy()
    bars[:, :VOLUME] *= factor
    return replace(_with_bars(case, bars), unit=case.unit * factor)


def shuffled(case: Case, rng: Generator) -> Case:
    """The same rows in another order."""
    order = rng.permutation(len(case.rows.sessions))
    return _with_rows(case, case.rows.sessions[order], case.rows.bars[order])


def future(case: Case, _: Generator) -> Case:
    """Rows of days that have not come."""
    days = case.rows.sessions
    ahead = days[-1] + np.arange(400, 403)
    return _with_rows(case, np.concatenate([days, ahead]), np.concatenate([case.rows.bars, case.rows.bars[-3:]]))


def trailing_nulls(case: Case, rng: Generator) -> Case:
    """The newest rows have no value yet."""
    bars = case.rows.bars.copy()
    bars[-int(rng.integers(1, 6)) :] = np.nan
    return _with_bars(case, bars)


def extremes(case: Case, rng: Generator) -> Case:
    """Prices beyond any number that a market has."""
    return _cells(case, CLOSE, _some(rng, case, 0.7), float(rng.choice([1e300, 1e-300, 5e-324, np.inf, -1e300, 0.0])))


DIRT: Mapping[str, Dirt] = {
    dirt.__name__: dirt
    for dirt in (
        zero_opens, bad_cells, bad_volumes, nulls, negative_past, duplicates, contradictions, ghosts, halts, locked,
        late, unit_step, readjusted, shuffled, future, trailing_nulls, extremes,
    )
}  # fmt: skip

NAMED_BY: Mapping[str, str] = {
    "zero_opens": "unusable values", "bad_cells": "unusable values", "bad_volumes": "unusable values",
    "nulls": "left out", "negative_past": "left out", "contradictions": "left out", "halts": "no trades",
    "locked": "low and close are equal", "late": "missing|prices end on", "unit_step": "by a factor of",
    "future": "left out", "trailing_nulls": "prices end on", "extremes": "left out",
}  # fmt: skip
"""A pattern of the warning that names a kind of dirt; the other kinds change nothing."""


def _some(rng: Generator, case: Case, most: float = 1.0) -> NDArray[np.bool_]:
    """A random share of the rows, from a few to ``most`` of them."""
    return np.asarray(rng.random(len(case.rows.sessions)) < most * rng.random() ** 2)


def _run(rng: Generator, n_rows: int, longest: int) -> tuple[int, int]:
    first = int(rng.integers(2, n_rows))
    return first, min(first + int(rng.integers(1, longest + 1)), n_rows)


def _cells(case: Case, column: int, rows: NDArray[np.bool_], value: float) -> Case:
    bars = case.rows.bars.copy()
    bars[rows, column] = value
    return _with_bars(case, bars)


def _repeated(case: Case, rng: Generator, factor: float) -> Case:
    rows = _some(rng, case, 0.3)
    again = case.rows.bars[rows].copy()
    again[:, :VOLUME] *= factor
    days = case.rows.sessions
    return _with_rows(case, np.concatenate([days, days[rows]]), np.concatenate([case.rows.bars, again]), sort=True)


def _with_bars(case: Case, bars: Bars) -> Case:
    return _with_rows(case, case.rows.sessions, bars)


def _with_rows(case: Case, sessions: NDArray[np.datetime64], bars: Bars, *, sort: bool = False) -> Case:
    order = np.argsort(sessions, kind="stable") if sort else slice(None)
    return replace(case, rows=replace(case.rows, sessions=sessions[order], bars=bars[order]))
