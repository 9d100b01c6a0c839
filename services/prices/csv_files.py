"""Daily prices from a folder of CSV files, one file per ticker."""

import csv
import math
from collections.abc import Callable, Iterable
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from errors import PricesInvalid, PricesUnreachable, TickerNotFound
from services.prices.calendars import exchange_of, history_at
from services.prices.series import COLUMNS, PriceHistory, RawBars, clean, require_ticker

_Cell = TypeVar("_Cell")

_MISSING = frozenset({"", "nan", "null", "none", "n/a", "-"})


class CsvSource:
    """Reads ``folder/TICKER.csv`` at every call, so that an edited file counts at once.

    The header names Date, Open, High, Low, Close and Volume in any order and case;
    other columns are ignored. Dates are ISO 8601, with or without a time.
    """

    name = "csv"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def history(self, ticker: str, now: datetime) -> PriceHistory:
        """The completed sessions in the ticker's file.

        Raises:
            TickerNotFound: there is no such file.
            UnknownExchange: no calendar is known for its suffix.
            PricesInvalid: the file cannot be read as prices; names line and column.
            PricesUnreachable: the file exists but cannot be opened.
        """
        path = self._folder / f"{require_ticker(ticker)}.csv"
        exchange_of(ticker)
        raw = _read_file(path, ticker)
        series, dropped = clean(ticker, raw.sessions, raw.bars, raw.currency)
        return history_at(series, now, source=self.name, dropped=dropped)


def read_bars(lines: Iterable[str], name: str, parse_day: Callable[[str], date]) -> RawBars:
    """The rows of a CSV text, in its order; empty cells are NaN.

    Args:
        lines: the text, header first.
        name: what to call the text in messages.
        parse_day: the meaning of a Date cell; ``ValueError`` where it has none.

    Raises:
        PricesInvalid: a column is missing or a cell cannot be read; names line and column.
    """
    reader = csv.reader(lines)
    try:
        header = [title.strip().lower() for title in next(reader, [])]
        places = {column: _place(header, column, name) for column in ("Date", *COLUMNS)}
        days, bars = [], []
        for row in filter(None, reader):
            where = f"{name}, line {reader.line_num}"
            days.append(_cell(row, places, "Date", where, parse_day))
            bars.append([_cell(row, places, column, where, _number) for column in COLUMNS])
    except csv.Error as error:
        raise PricesInvalid(f"{name}, line {reader.line_num}: {error}") from None
    return RawBars(np.array(days, dtype="datetime64[D]"), np.array(bars, dtype=np.float64).reshape(-1, len(COLUMNS)))


def _read_file(path: Path, ticker: str) -> RawBars:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:  # spreadsheets put a byte order mark first
            return read_bars(lines, path.name, _iso_day)
    except FileNotFoundError:
        raise TickerNotFound(f"there is no {path.name} in the price folder", ticker=ticker) from None
    except UnicodeDecodeError as error:
        raise PricesInvalid(f"{path.name} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise PricesUnreachable(f"cannot read {path.name}: {error.strerror}") from error


def _place(header: list[str], column: str, name: str) -> int:
    if column.lower() not in header:
        raise PricesInvalid(f"{name}, line 1: need a column {column}, found {', '.join(header) or 'no header'}")
    return header.index(column.lower())


def _cell(row: list[str], places: dict[str, int], column: str, where: str, parse: Callable[[str], _Cell]) -> _Cell:
    place = places[column]
    if place >= len(row):
        raise PricesInvalid(f"{where}: the row ends before column {column}")
    text = row[place].strip()
    try:
        return parse(text)
    except ValueError:
        raise PricesInvalid(f"{where}: cannot read {text[:40]!r} as {column}") from None


def _number(text: str) -> float:
    return math.nan if text.lower() in _MISSING else float(text)


def _iso_day(text: str) -> date:
    return datetime.fromisoformat(text).date()
