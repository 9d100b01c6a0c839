"""Prices of many tickers for ``benchmarks.universe``: a folder of TICKER.csv files, or arrays of many tickers.

An array file NAME.npz has ``bars`` (n_sessions, n_tickers, 5), NaN where a ticker has no session, ``sessions`` and
``tickers``. It is no format of the application.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from errors import TickerNotFound
from services.prices.calendars import history_at
from services.prices.cleaning import clean_raw
from services.prices.csv import CsvSource
from services.prices.market import MarketAwareSource
from services.prices.series import PriceHistory, PriceSource, RawBars

ARRAYS = Path("../shared/data/universe")
MARKETS = Path("../shared/data/market")
US, B3 = "XNYS", "BVMF"


@dataclass(frozen=True)
class Universe:
    """The shares and funds of each exchange, by ticker in ascending order, with their markets; indices left out."""

    us: Mapping[str, PriceHistory]
    b3: Mapping[str, PriceHistory]


class RememberedSource:
    """Wraps a price source and reads each ticker once, so that all tickers have the same object for their market."""

    def __init__(self, source: PriceSource) -> None:
        self._source = source
        self._known: dict[str, PriceHistory] = {}

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        if ticker not in self._known:
            self._known[ticker] = self._source.history(ticker, now, recent)
        return self._known[ticker]


class ArraySource:
    """Tickers from the array files of one folder; those that no array has come from CSV files of another."""

    name = "arrays"

    def __init__(self, arrays: Path, markets: Path) -> None:
        self._markets = CsvSource(markets)
        self._raw: dict[str, RawBars] = {}
        for path in sorted(arrays.glob("*.npz")):
            with np.load(path) as stored:
                sessions, bars, tickers = (stored[name] for name in ("sessions", "bars", "tickers"))
            for column, ticker in enumerate(map(_as_yahoo_spells, tickers.tolist())):
                own = bars[:, column].astype(np.float64)
                has_session = ~np.isnan(own).all(axis=1)
                self._raw[ticker] = RawBars(sessions[has_session], own[has_session])
        self.tickers = tuple(sorted({*self._raw, *(path.stem for path in markets.glob("*.csv"))}))

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        if ticker not in self._raw:
            return replace(self._markets.history(ticker, now, recent), source=self.name)
        series, defects = clean_raw(ticker, self._raw[ticker])
        return history_at(series, now, source=self.name, defects=defects)


def prices_in(folder: Path, markets: Path | None = None) -> tuple[PriceSource, tuple[str, ...]]:
    """The prices of a folder of arrays or of TICKER.csv files, and its tickers; ``markets`` has files of indices."""
    if any(folder.glob("*.npz")):
        arrays = ArraySource(folder, markets or folder)
        return arrays, arrays.tickers
    return CsvSource(folder), tuple(sorted(path.stem for path in folder.glob("*.csv")))


def _as_yahoo_spells(ticker: str) -> str:
    """``BRK-B`` for ``BRK.B``: a point begins the suffix of an exchange."""
    return ticker if ticker.endswith(".SA") else ticker.replace(".", "-")


def read_universe(folder: Path | None) -> Universe:
    """The tickers of a folder of TICKER.csv files; of the array files where None."""
    source: PriceSource
    if folder is not None:
        source, tickers = CsvSource(folder), tuple(sorted(path.stem for path in folder.glob("*.csv")))
    elif ARRAYS.is_dir() and MARKETS.is_dir():
        arrays = ArraySource(ARRAYS, MARKETS)
        source, tickers = arrays, arrays.tickers
    else:
        raise TickerNotFound(f"no prices: expected a folder of TICKER.csv files (--universe), or {ARRAYS}/*.npz")
    aware, now = MarketAwareSource(RememberedSource(source)), datetime.now(UTC)
    histories = {ticker: aware.history(ticker, now) for ticker in tickers if not ticker.startswith("^")}
    by_exchange = {
        exchange: {ticker: one for ticker, one in histories.items() if one.series.exchange == exchange}
        for exchange in (US, B3)
    }
    return Universe(by_exchange[US], by_exchange[B3])
