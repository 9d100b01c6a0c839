"""Daily prices as immutable, validated values, and the protocol of price sources."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from errors import TickerNotFound
from schemas.common import TICKER_PATTERN
from services.prices.exchanges import Listing

Sessions = NDArray[np.datetime64]

SAMPLE = "sample"  # the name of the source of sample prices
COLUMNS = ("Open", "High", "Low", "Close", "Volume")
MAX_GAP = np.timedelta64(10, "D")  # the longest closure of an exchange but a few
FLAT_TOLERANCE = 1e-6  # relative: adjusted prices carry rounding of about 1e-8


@dataclass(frozen=True, eq=False)
class PriceSeries:
    """Daily bars of one ticker, oldest first.

    Sessions are unique and ascending. Closes are finite and positive. Open, high and low are the same, or NaN where
    unknown; where known, high and low enclose open and close. Volume is finite and not negative. ``cleaning.clean``
    establishes this.

    Attributes:
        ticker: exchange symbol.
        exchange: name of the trading calendar, see ``exchanges.exchange_of``.
        sessions: trading days, datetime64[D], shape (n,).
        bars: open, high, low, close (split- and dividend-adjusted, quote currency)
            and volume (shares), float64, shape (n, 5), read-only.
        currency: ISO code of the quote currency; None where the source does not say.
    """

    ticker: str
    exchange: str
    sessions: Sessions
    bars: NDArray[np.float64]
    currency: str | None = None

    def __len__(self) -> int:
        return int(self.sessions.size)

    @cached_property
    def close(self) -> NDArray[np.float64]:
        """Adjusted closes, shape (n,)."""
        return self.bars[:, COLUMNS.index("Close")]

    @cached_property
    def first_session(self) -> date:
        return to_date(self.sessions[0])

    @cached_property
    def last_session(self) -> date:
        return to_date(self.sessions[-1])

    def between(self, start: date | None, end: date | None) -> "PriceSeries":
        """The sessions with start <= session <= end; None leaves a side open. May be empty."""
        first = 0 if start is None else int(np.searchsorted(self.sessions, np.datetime64(start), side="left"))
        stop = len(self) if end is None else int(np.searchsorted(self.sessions, np.datetime64(end), side="right"))
        return self._slice(first, stop)

    def tail(self, count: int) -> "PriceSeries":
        """The last ``count`` sessions, or all of them where there are fewer."""
        return self._slice(max(0, len(self) - count), len(self))

    def where(self, kept: NDArray[np.bool_]) -> "PriceSeries":
        """The sessions marked True; ``kept`` has shape (n,)."""
        if kept.all():
            return self
        return replace(self, sessions=_frozen(self.sessions[kept]), bars=_frozen(self.bars[kept]))

    def with_target(self, target_column: str) -> "PriceSeries":
        """The series with the target column in place of the close, without the sessions where it is unknown.

        For a target other than the close, the remaining prices belong to other moments of the session, so they are NaN.
        """
        if target_column in ("Close", "Adj Close"):  # closes here are adjusted
            return self
        bars = np.full_like(self.bars, np.nan)
        bars[:, COLUMNS.index("Close")] = self.bars[:, COLUMNS.index(target_column)]
        bars[:, COLUMNS.index("Volume")] = self.bars[:, COLUMNS.index("Volume")]
        targeted = replace(self, bars=_frozen(bars))
        return targeted.where(~np.isnan(targeted.close))

    def _slice(self, first: int, stop: int) -> "PriceSeries":
        return replace(self, sessions=self.sessions[first:stop], bars=self.bars[first:stop])


@dataclass(frozen=True, eq=False)
class Defects:
    """The defects of a source's rows: the days concerned, by reason.

    Attributes:
        dropped: rows left out. Reasons: "missing", "not_positive", "implausible", "contradictory", "duplicate",
            "ghost", "future", "undated" (whose days are NaT).
        repaired: cells made unknown in rows that stay, by column in lower case; "order" counts rows out of order.
    """

    dropped: Mapping[str, Sessions] = field(default_factory=dict)
    repaired: Mapping[str, Sessions] = field(default_factory=dict)

    def with_dropped(self, reason: str, days: Sessions) -> "Defects":
        """The same with more rows left out."""
        if not days.size:
            return self
        before = self.dropped.get(reason, np.array([], dtype="datetime64[D]"))
        return replace(self, dropped={**self.dropped, reason: np.concatenate([before, days])})

    def within(self, first: date, last: date) -> "Defects":
        """The defects of the days first <= day <= last."""
        start, stop = np.datetime64(first), np.datetime64(last)

        def cut(days_by_reason: Mapping[str, Sessions]) -> dict[str, Sessions]:
            inside = {reason: days[(days >= start) & (days <= stop)] for reason, days in days_by_reason.items()}
            return {reason: days for reason, days in inside.items() if days.size}

        return Defects(cut(self.dropped), cut(self.repaired))

    @cached_property
    def n_dropped(self) -> dict[str, int]:
        """Rows left out, reason -> count."""
        return {reason: int(days.size) for reason, days in self.dropped.items()}

    @cached_property
    def n_repaired(self) -> dict[str, int]:
        """Cells made unknown, column -> count."""
        return {reason: int(days.size) for reason, days in self.repaired.items()}


@dataclass(frozen=True, eq=False)
class Market:
    """What moves all tickers of an exchange.

    Attributes:
        index: the exchange's index.
        implied: its implied volatility in percent a year, as the close of a series; None where there is none.
    """

    index: PriceSeries
    implied: PriceSeries | None = None

    def at(self, sessions: Sessions) -> NDArray[np.float64]:
        """Open, high, low and close of the index and the implied volatility at each session, shape (n, 5).

        Nothing of a later session is read. Where the index has no bar, its last close stands for up to MAX_GAP days,
        with open, high and low NaN, and so they are for a bar without a range. Everything else unknown is NaN.
        """
        columns = np.full((len(sessions), 5), np.nan)
        rows, same = self._rows(self.index, sessions)
        columns[rows >= 0, 3] = self.index.close[rows[rows >= 0]]
        prices = self.index.bars[rows[same], :4]
        prices[np.ptp(prices, axis=1) <= FLAT_TOLERANCE * prices[:, 3], :3] = np.nan
        columns[same, :3] = prices[:, :3]
        if self.implied is not None:
            rows, _ = self._rows(self.implied, sessions)
            columns[rows >= 0, 4] = self.implied.close[rows[rows >= 0]]
        return columns

    def as_of(self, session: date) -> date | None:
        """The newest session of the index up to ``session``."""
        known = self.index.between(None, session)
        return known.last_session if len(known) else None

    @staticmethod
    def _rows(series: PriceSeries, sessions: Sessions) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The row of the newest bar up to each session, −1 where it is too old, and whether it is that session's."""
        rows = np.searchsorted(series.sessions, sessions, side="right") - 1
        age = sessions - series.sessions[np.maximum(rows, 0)]
        rows = np.where(age > MAX_GAP, -1, rows)
        return rows, (rows >= 0) & (age == np.timedelta64(0, "D"))


@dataclass(frozen=True, eq=False)
class PriceHistory:
    """A series together with where it came from.

    Attributes:
        series: the validated prices; never an unfinished session.
        source: the name of the source that supplied it ("yahoo", "sample", "csv").
        stale: True when a newer completed session should exist but is missing.
        defects: what was wrong with the whole history that the source supplied.
        market: the market of the exchange, where a model may read it; see ``services.prices.market``.
    """

    series: PriceSeries
    source: str
    stale: bool = False
    defects: Defects = field(default_factory=Defects)
    market: "Market | None" = None

    @cached_property
    def as_of(self) -> date:
        """The newest session."""
        return self.series.last_session

    @cached_property
    def dropped(self) -> dict[str, int]:
        """Rows of the whole history that were left out, reason -> count."""
        return self.defects.n_dropped

    @cached_property
    def repaired(self) -> dict[str, int]:
        """Cells of the whole history that were made unknown, column -> count."""
        return self.defects.n_repaired

    @cached_property
    def inputs(self) -> NDArray[np.float64]:
        """What a model reads: the bars and, where it is known, the market at the same sessions, (n, 5) or (n, 10)."""
        if self.market is None:
            return self.series.bars
        return _frozen(np.concatenate([self.series.bars, self.market.at(self.series.sessions)], axis=1))

    @cached_property
    def demo(self) -> bool:
        """Whether these are the sample prices, which end in 2018."""
        return self.source == SAMPLE

    def between(self, start: date | None, end: date | None) -> "PriceHistory":
        """The history of start <= session <= end; not stale if it ends before the newest session."""
        stale = self.stale and (end is None or end > self.as_of)
        return replace(self, series=self.series.between(start, end), stale=stale)

    def tail(self, count: int) -> "PriceHistory":
        return replace(self, series=self.series.tail(count))

    def with_target(self, target_column: str) -> "PriceHistory":
        return replace(self, series=self.series.with_target(target_column))


@dataclass(frozen=True, eq=False)
class RawBars:
    """Rows as a source supplied them, before ``cleaning.clean``.

    Attributes:
        sessions: one day per row, datetime64[D], any order, shape (n,).
        bars: open, high, low, close, volume, float64, shape (n, 5); NaN where unknown.
        currency: ISO code of the quote currency; None where the source does not say.
        listing: where the ticker trades, according to the source.
    """

    sessions: Sessions
    bars: NDArray[np.float64]
    currency: str | None = None
    listing: Listing | None = None


class PriceSource(Protocol):
    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        """The completed sessions of ``ticker`` as known at ``now`` (time zone aware).

        Args:
            ticker: exchange symbol.
            now: the present.
            recent: the number of newest sessions needed; None for the whole history. The source may return more.

        Raises:
            TickerNotFound: the source does not know the ticker.
            UnknownExchange: the ticker's trading calendar is unknown.
            PricesInvalid: not a single row is usable.
            UpstreamUnavailable: the source failed (subclasses say how).
        """


def validate_ticker(ticker: str) -> str:
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


def _frozen(array: NDArray) -> NDArray:  # type: ignore[type-arg]
    array.setflags(write=False)
    return array
