"""Daily prices as values: validated once, frozen, and the protocol of whatever supplies them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from errors import PricesInvalid, TickerNotFound
from schemas.common import TICKER_PATTERN

Sessions = NDArray[np.datetime64]

COLUMNS = ("Open", "High", "Low", "Close", "Volume")
MAX_BAD_SHARE = 0.1  # beyond this the history is refused rather than patched


@dataclass(frozen=True, eq=False)
class PriceSeries:
    """Daily bars of one ticker, oldest first.

    Sessions are unique and ascending; prices are finite and positive, volume is
    finite and not negative; high and low enclose open and close. Build it with
    ``clean``, which establishes this.

    Attributes:
        ticker: exchange symbol.
        sessions: trading days, datetime64[D], shape (n,).
        bars: open, high, low, close (split- and dividend-adjusted, quote currency)
            and volume (shares), float64, shape (n, 5), read-only.
        currency: ISO code of the quote currency, where the source tells it.
    """

    ticker: str
    sessions: Sessions
    bars: NDArray[np.float64]
    currency: str | None = None

    def __len__(self) -> int:
        return int(self.sessions.size)

    @property
    def close(self) -> NDArray[np.float64]:
        """Adjusted closes, shape (n,)."""
        return self.bars[:, COLUMNS.index("Close")]

    @property
    def first_session(self) -> date:
        """The oldest session held."""
        return to_date(self.sessions[0])

    @property
    def last_session(self) -> date:
        """The newest session held."""
        return to_date(self.sessions[-1])

    def bars_of(self, target_column: str) -> NDArray[np.float64]:
        """The bars with the target column in the place of the close, shape (n, 5).

        For another target than the close the remaining prices say nothing of the
        same moment, so they are NaN.
        """
        if target_column in ("Close", "Adj Close"):  # ours is adjusted
            return self.bars
        bars = np.full_like(self.bars, np.nan)
        bars[:, COLUMNS.index("Close")] = self.bars[:, COLUMNS.index(target_column)]
        bars[:, COLUMNS.index("Volume")] = self.bars[:, COLUMNS.index("Volume")]
        return bars

    def between(self, start: date | None, end: date | None) -> "PriceSeries":
        """The sessions with start <= session <= end; an open side is not bounded. May be empty."""
        first = 0 if start is None else int(np.searchsorted(self.sessions, np.datetime64(start), side="left"))
        stop = len(self) if end is None else int(np.searchsorted(self.sessions, np.datetime64(end), side="right"))
        return self._slice(first, stop)

    def tail(self, count: int) -> "PriceSeries":
        """The last ``count`` sessions, or all of them where fewer are held."""
        return self._slice(max(0, len(self) - count), len(self))

    def _slice(self, first: int, stop: int) -> "PriceSeries":
        return PriceSeries(self.ticker, self.sessions[first:stop], self.bars[first:stop], self.currency)


@dataclass(frozen=True)
class PriceHistory:
    """A series together with where it came from.

    Attributes:
        series: the validated prices; never an unfinished session.
        source: the name of the source that supplied it ("yahoo", "sample", "csv").
        stale: True when a newer completed session should exist but could not be had.
        dropped: rows that were left out or mended while cleaning, reason -> count.
    """

    series: PriceSeries
    source: str
    stale: bool = False
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def as_of(self) -> date:
        """The newest session the history holds."""
        return self.series.last_session

    def between(self, start: date | None, end: date | None) -> "PriceHistory":
        """The history of start <= session <= end; it is not stale when nothing newer was asked for."""
        stale = self.stale and (end is None or end > self.as_of)
        return replace(self, series=self.series.between(start, end), stale=stale)

    def tail(self, count: int) -> "PriceHistory":
        """The history of the last ``count`` sessions."""
        return replace(self, series=self.series.tail(count))


@dataclass(frozen=True, eq=False)
class RawBars:
    """Rows as a source supplied them, before ``clean``.

    Attributes:
        sessions: one day per row, datetime64[D], any order, shape (n,).
        bars: open, high, low, close, volume, float64, shape (n, 5); NaN where unknown.
        currency: ISO code of the quote currency, where the source tells it.
    """

    sessions: Sessions
    bars: NDArray[np.float64]
    currency: str | None = None


class PriceSource(Protocol):
    """Anything that answers with the whole known daily history of a ticker."""

    def history(self, ticker: str, now: datetime) -> PriceHistory:
        """The completed sessions of ``ticker`` as known at ``now`` (time zone aware).

        Raises:
            TickerNotFound: the source does not know the ticker.
            UnknownExchange: no calendar is known for its suffix.
            PricesInvalid: the rows supplied cannot be mended.
            UpstreamUnavailable: the source failed (subclasses say how).
        """
        ...


def clean(
    ticker: str, sessions: Iterable[date] | Sessions, bars: ArrayLike, currency: str | None = None
) -> tuple[PriceSeries, dict[str, int]]:
    """A valid series from raw rows, and how many rows were dropped or mended, by reason.

    Rows with a missing or non-positive price or a negative volume are dropped; of
    rows with the same session the last one counts; a high or low that does not
    enclose open and close is widened to do so; a missing volume counts as zero.

    Args:
        ticker: exchange symbol, for messages.
        sessions: one day per row, in any order.
        bars: open, high, low, close, volume, shape (n, 5); NaN where unknown.
        currency: ISO code, where known.

    Raises:
        PricesInvalid: no usable row, or more than a tenth of the rows is bad.
    """
    days = _as_days(sessions)
    rows = np.array(bars, dtype=np.float64).reshape(-1, len(COLUMNS))
    report: dict[str, int] = {}

    rows[np.isnan(rows[:, 4]), 4] = 0.0
    keep = _usable(days, rows, report)
    _refuse_if_mostly_bad(ticker, n_rows=days.size, n_kept=int(keep.sum()), report=report)
    days, rows = days[keep], rows[keep]
    days, rows = _sorted_unique(days, rows, report)
    _enclose(rows, report)

    rows.setflags(write=False)
    days.setflags(write=False)
    return PriceSeries(ticker, days, rows, currency), report


def require_ticker(ticker: str) -> str:
    """The ticker itself, safe to put into a path or an address.

    Raises:
        TickerNotFound: no exchange could have such a symbol.
    """
    if not TICKER_PATTERN.fullmatch(ticker):
        raise TickerNotFound(f"{ticker[:40]!r} cannot be a ticker")
    return ticker


def to_date(session: np.datetime64) -> date:
    """A numpy day as a ``datetime.date``."""
    day: date = session.astype("datetime64[D]").item()
    return day


def _as_days(sessions: Iterable[date] | Sessions) -> Sessions:
    values = sessions if isinstance(sessions, np.ndarray) else list(sessions)
    return np.array(values, dtype="datetime64[D]")


def _usable(days: Sessions, rows: NDArray[np.float64], report: dict[str, int]) -> NDArray[np.bool_]:
    prices, volume = rows[:, :4], rows[:, 4]
    reasons = {
        "missing": ~np.isfinite(rows).all(axis=1) | np.isnat(days),
        "not_positive": (prices <= 0).any(axis=1),
        "negative_volume": volume < 0,
    }
    keep = np.ones(days.size, dtype=bool)
    for reason, bad in reasons.items():
        _count(report, reason, int((bad & keep).sum()))
        keep &= ~bad
    return keep


def _refuse_if_mostly_bad(ticker: str, *, n_rows: int, n_kept: int, report: Mapping[str, int]) -> None:
    if n_kept == 0 or n_rows - n_kept > MAX_BAD_SHARE * n_rows:
        why = ", ".join(f"{count} {reason}" for reason, count in report.items()) or "no rows at all"
        raise PricesInvalid(f"only {n_kept} of {n_rows} rows of {ticker} are usable ({why})")


def _sorted_unique(
    days: Sessions, rows: NDArray[np.float64], report: dict[str, int]
) -> tuple[Sessions, NDArray[np.float64]]:
    _count(report, "unsorted", int((np.diff(days) < np.timedelta64(0, "D")).sum()))
    order = np.argsort(days, kind="stable")
    days, rows = days[order], rows[order]
    last_of_day = np.append(days[1:] != days[:-1], True)
    _count(report, "duplicated", int((~last_of_day).sum()))
    return days[last_of_day], rows[last_of_day]


def _enclose(rows: NDArray[np.float64], report: dict[str, int]) -> None:
    high = rows[:, :4].max(axis=1)
    low = rows[:, :4].min(axis=1)
    # adjusted prices carry rounding of about 1e-8; only what is larger is worth telling
    widened = (high / (1 + 1e-6) > rows[:, 1]) | (low < rows[:, 2] * (1 - 1e-6))
    _count(report, "range_widened", int(widened.sum()))
    rows[:, 1], rows[:, 2] = high, low


def _count(report: dict[str, int], reason: str, n: int) -> None:
    if n:
        report[reason] = n
