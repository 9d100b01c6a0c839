"""Daily prices from a folder of CSV files, one file per ticker, in the formats of many programs."""

import logging
import os
import threading
from collections.abc import Callable, Iterable
from datetime import date, datetime
from functools import partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from stat import S_ISLNK
from typing import BinaryIO

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from at_once import may_take_long
from errors import PricesInvalid, PricesUnreachable, TickerNotFound
from schemas.common import TICKER_PATTERN
from services.prices.calendars import history_at, local_date
from services.prices.cleaning import clean_raw
from services.prices.csv.dates import read_days
from services.prices.csv.formats import ADJUSTED, DATE, TICKS, read_table
from services.prices.csv.numbers import read_numbers
from services.prices.csv.plain import MAX_PLAIN_BYTES, read_plain
from services.prices.csv.rows import bounded_lines
from services.prices.exchanges import exchange_of
from services.prices.series import COLUMNS, Defects, PriceHistory, PriceSeries, RawBars, Sessions, validate_ticker

MAX_FILE_BYTES = 64 * 2**20
SUFFIX = ".csv"
LISTED = 20_000  # files of a folder
REMEMBERED_BYTES = 96 * 2**20  # of parsed files: a batch of 500 tickers with 15 years each

_log = logging.getLogger(__name__)

_Version = tuple[int, int, int]
"""Inode, size and time of change of a file."""

_Values = NDArray[np.float64]


class CsvSource:
    """Reads ``folder/TICKER.csv``, and again once its size or time of change differs: an edit counts at once.

    ``docs/configuration.md`` lists the formats, which are recognised from the file itself.
    """

    name = "csv"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: LRUCache[str, tuple[_Version, PriceSeries, Defects]] = LRUCache(REMEMBERED_BYTES, _n_bytes)
        self._lock = threading.Lock()

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:  # noqa: ARG002  one file
        validate_ticker(ticker)
        may_take_long()
        series, defects = self._series(ticker)
        return history_at(series, now, source=self.name, defects=defects)

    def tickers(self) -> frozenset[str]:
        """The tickers of the folder's files, at most ``LISTED``; empty where the folder cannot be read."""
        try:
            with os.scandir(self._folder) as files:
                names = [one.name[: -len(SUFFIX)] for one in islice(files, LISTED) if one.name.endswith(SUFFIX)]
        except OSError as error:
            _log.warning("cannot list the price folder: %s", error.strerror)
            return frozenset()
        return frozenset(filter(TICKER_PATTERN.fullmatch, names))

    def _series(self, ticker: str) -> tuple[PriceSeries, Defects]:
        """The cleaned file, parsed once for each of its versions."""
        version = _version(self._folder / f"{ticker}.csv")
        with self._lock:
            known = self._read.get(ticker)
        if known is not None and known[0] == version:
            return known[1:]
        read = partial(read_bars, ticker=ticker, local_date=partial(local_date, exchange_of(ticker)))
        series, defects = clean_raw(ticker, _read_file(self._folder, ticker, read))
        if version is not None and version == _version(self._folder / f"{ticker}.csv"):
            with self._lock:
                self._read[ticker] = (version, series, defects)
        return series, defects


def read_bars(lines: Iterable[str], name: str, *, ticker: str, local_date: Callable[[datetime], date]) -> RawBars:
    """The rows of a CSV text that belong to ``ticker``, in the order of the text.

    Open, high and low are NaN where the text has no such column, and so is volume. An adjusted close replaces the
    close, and scales open, high and low by the same factor.

    Args:
        lines: the text, header first.
        name: what to call the text in messages.
        ticker: exchange symbol, for texts with several.
        local_date: the date at the exchange at a moment, for texts with times in another zone.

    Raises:
        PricesInvalid: a column is missing or a cell cannot be read; names line and column.
        TickerNotFound: the text has prices of other tickers only.
    """
    columns = read_table(lines, name, ticker)
    days = read_days(columns.pop(DATE), local_date)
    return _bars(days, read_numbers(columns))


def _bars(days: Sessions, values: dict[str, _Values]) -> RawBars:
    unknown = np.full(days.size, np.nan)
    prices = _adjusted({column: values.get(column, unknown) for column in COLUMNS[:4]}, values.get(ADJUSTED))
    return RawBars(days, np.column_stack([*prices, _volume(values, unknown)]))


def _adjusted(prices: dict[str, _Values], adjusted: _Values | None) -> list[_Values]:
    """Open, high, low and close on the scale of the adjusted close.

    A row without an adjusted close has no close: its raw one is on another scale. A column of adjusted closes without
    a single number counts as absent.
    """
    if adjusted is None or np.isnan(adjusted).all():
        return list(prices.values())
    close = prices["Close"]
    with np.errstate(all="ignore"):
        factor = np.where(close > 0, adjusted / close, np.nan)
        scaled = [prices[column] * factor for column in ("Open", "High", "Low")]
    return [*scaled, adjusted]


def _n_bytes(parsed: tuple[_Version, PriceSeries, Defects]) -> int:
    series = parsed[1]
    return series.bars.nbytes + series.sessions.nbytes


def _version(path: Path) -> _Version | None:
    """None where there is no such file, or a link that leads out of the folder."""
    try:
        found = path.lstat()
        if S_ISLNK(found.st_mode):
            if not path.resolve().is_relative_to(path.parent.resolve()):
                return None
            found = path.stat()
    except (OSError, RuntimeError):  # the second for a link to itself
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _volume(values: dict[str, _Values], unknown: _Values) -> _Values:
    """The volume, or MetaTrader's number of price changes where the file has no volume at all."""
    volume = values.get("Volume", unknown)
    return values[TICKS] if TICKS in values and not (volume > 0).any() else volume


def _read_file(folder: Path, ticker: str, read: Callable[[Iterable[str], str], RawBars]) -> RawBars:
    name = f"{ticker}.csv"
    try:
        with _inside(folder, name, ticker).open("rb") as content:
            return _decoded(content, name, read)
    except FileNotFoundError:
        raise TickerNotFound(f"there is no {name} in the price folder", ticker=ticker) from None
    except OSError as error:
        raise PricesUnreachable(f"cannot read {name}: {error.strerror}") from error


def _inside(folder: Path, name: str, ticker: str) -> Path:
    try:
        path, root = (folder / name).resolve(), folder.resolve()
    except RuntimeError:  # a link to itself
        raise TickerNotFound(f"{name} is a link that leads nowhere", ticker=ticker) from None
    if not path.is_relative_to(root):
        raise TickerNotFound(f"{name} is a link that leads out of the price folder", ticker=ticker)
    if path.exists() and not path.is_file():  # opening a pipe would block for ever
        raise PricesUnreachable(f"cannot read {name}: it is not a regular file")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise PricesInvalid(f"{name} has {size / 2**20:.0f} MB; the limit is {MAX_FILE_BYTES / 2**20:.0f} MB")
    return path


def _decoded(content: BinaryIO, name: str, read: Callable[[Iterable[str], str], RawBars]) -> RawBars:
    size = os.fstat(content.fileno()).st_size  # a read of more than that allocates it all
    data = content.read(min(size, MAX_PLAIN_BYTES) + 1)
    plain = read_plain(data)
    if plain is not None:
        return _bars(*plain)
    mark = data[:3]
    encodings = ("utf-16",) if mark[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        content.seek(0)
        text = TextIOWrapper(content, encoding, newline="")
        try:
            return read(bounded_lines(text, name), name)
        except UnicodeDecodeError:
            continue
        finally:
            text.detach()
    raise PricesInvalid(f"{name} is not text in UTF-8, in UTF-16 with a byte order mark, or in Windows-1252")
