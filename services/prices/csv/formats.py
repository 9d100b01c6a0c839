"""Which cells of a CSV file are the prices of a ticker: header names of many sources in one table."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from errors import PricesInvalid, TickerNotFound
from schemas.common import TICKER_PATTERN
from services.prices.csv.rows import Column, Row, is_missing, split_rows

MAX_ROWS = 100_000  # a century of daily prices has about 25,000
DATE, ADJUSTED, TICKS = "Date", "Adj Close", "Tick volume"

# as ``_plain`` writes them; where a header has several of a line, the first of the line counts
_NAMES: Mapping[str, tuple[str, ...]] = {
    DATE: ("date", "data", "datetime", "date time", "timestamp", "time"),
    "Open": ("open", "abertura", "1. open"),
    "High": ("high", "maxima", "maximo", "max", "2. high"),
    "Low": ("low", "minima", "minimo", "min", "3. low"),
    "Close": ("close", "close/last", "fechamento", "4. close", "ultimo", "last", "price"),
    ADJUSTED: ("adj close", "adjusted close", "adjclose", "5. adjusted close"),
    "Volume": ("volume", "vol", "5. volume", "6. volume"),
    TICKS: ("tickvol", "tick volume"),
}
_SYMBOLS = ("symbol", "ticker", "simbolo", "name")
_KNOWN = frozenset(name for names in _NAMES.values() for name in names)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The header's columns.

    Attributes:
        places: place in a row of each known column of the ticker.
        titles: the header's own names.
        symbol: place of the column that names each row's ticker; None where all rows are of one.
        wide: whether the file has columns of other tickers too.
    """

    places: Mapping[str, int]
    titles: list[str]
    symbol: int | None = None
    wide: bool = False


def read_table(lines: Iterable[str], file: str, ticker: str) -> dict[str, Column]:
    """The columns of ``ticker`` by our names: always Date and Close or Adj Close, the others where the file has them.

    Raises:
        PricesInvalid: the text is not a table of prices, or a row does not fit the header; names the line.
        TickerNotFound: the file has prices of other tickers only.
    """
    rows = split_rows(lines, file)
    head = list(islice(rows, 3))
    if not head:
        raise PricesInvalid(f"{file}, line 1: need a column {DATE}, found no header")
    n_headers = _header_rows(head)
    layout = _two_rows(head, file, ticker) if n_headers > 1 else _one_row(head, file, ticker)
    return _cells(chain(head[n_headers:], rows), layout, file, ticker)


def plain_places(header: bytes) -> tuple[Mapping[str, int], int]:
    """Where each known column is, and the number of columns, in a header with commas; none where it is not plain."""
    try:
        text = header.decode()
        titles = _titles(Row(1, text.split(",")))
        places = _places([_plain(title) for title in titles], range(len(titles)), titles, "", 1)
    except (UnicodeDecodeError, PricesInvalid):
        return {}, 0
    if any(mark in text for mark in '"\0;\t\r') or any(_plain(title) in _SYMBOLS for title in titles):
        return {}, 0
    return places, len(titles)


def _cells(rows: Iterator[Row], layout: _Layout, file: str, ticker: str) -> dict[str, Column]:
    lines: list[int] = []
    columns = {name: Column(file, layout.titles[place], lines) for name, place in layout.places.items()}
    targets = [(column.cells, layout.places[name]) for name, column in columns.items()]
    prices = [place for name, place in layout.places.items() if name != DATE]
    others: set[str] = set()
    for row in rows:
        _validate_width(row, layout, file)
        if layout.symbol is not None and not _is_of(row.cells[layout.symbol], ticker):
            if len(others) < 6:
                others.add(row.cells[layout.symbol].strip()[:20])
            continue
        if layout.wide and all(is_missing(row.cells[place]) for place in prices):
            continue  # a session of another ticker's exchange
        if len(lines) == MAX_ROWS:
            raise PricesInvalid(f"{file}, line {row.line}: more than {MAX_ROWS:,} rows are not daily prices")
        lines.append(row.line)
        for cells, place in targets:
            cells.append(row.cells[place])
    if others and not lines:
        raise _other_tickers(file, ticker, others)
    return columns


def _validate_width(row: Row, layout: _Layout, file: str) -> None:
    width = len(layout.titles)
    if len(row.cells) < width:
        used = [*layout.places.values(), *([] if layout.symbol is None else [layout.symbol])]
        cut = min((place for place in used if place >= len(row.cells)), default=None)
        if cut is not None:
            raise PricesInvalid(
                f"{file}, line {row.line}: the row ends before column {layout.titles[cut]} (it begins with "
                f"{row.cells[0].strip()[:40]!r})"
            )
    elif len(row.cells) > width and any(map(str.strip, row.cells[width:])):
        raise PricesInvalid(
            f"{file}, line {row.line}: the row has {len(row.cells)} cells and the header {width}; numbers with a comma "
            "need quotes or another separator"
        )


def _header_rows(head: list[Row]) -> int:
    """1, or the number of header rows in a download of yfinance: names, tickers, and often the name of the index."""
    firsts = [_plain(row.cells[0]) for row in head]
    index_named = len(head) == 3 and firsts[2] in _NAMES[DATE] and not any(map(str.strip, head[2].cells[1:]))
    if index_named and len(head[2].cells) > 1:
        return 3
    return 2 if {"price", "ticker"} == set(firsts[:2]) else 1


def _one_row(head: list[Row], file: str, ticker: str) -> _Layout:
    header = head[0]
    titles = _titles(header)
    names = [_plain(title) for title in titles]
    if not any(name in _NAMES[DATE] for name in names) and names[0] == "" and len(names) > 1:
        names[0] = "date"  # pandas writes an index without a name like this
    places = _places(names, range(len(names)), titles, file, header.line)
    titles[places[DATE]] = titles[places[DATE]] or DATE
    return _Layout(places, titles, _symbol_place(names, head[1:], ticker))


def _two_rows(head: list[Row], file: str, ticker: str) -> _Layout:
    upper, lower = map(_titles, head[:2])
    width = min(len(upper), len(lower))
    if sum(_plain(title) in _KNOWN for title in upper[1:]) >= sum(_plain(title) in _KNOWN for title in lower[1:]):
        titles, tickers = upper, lower
    else:
        titles, tickers = lower, upper
    mine = [place for place in range(1, width) if _is_of(tickers[place], ticker)]
    if not mine:
        raise _other_tickers(file, ticker, {name[:20] for name in tickers[1:]})
    names = ["date", *map(_plain, titles[1:])]
    places = _places(names, [0, *mine], titles, file, head[0].line)
    return _Layout(places, [DATE, *titles[1:]], wide=len(mine) < width - 1)


def _titles(row: Row) -> list[str]:
    """The cells of a header, fit for messages."""
    titles = [cell.strip()[:40] for cell in row.cells]
    return [title if title.isprintable() else repr(title) for title in titles]


def _places(names: list[str], allowed: Iterable[int], titles: list[str], file: str, line: int) -> dict[str, int]:
    """Where each known column is, among the places allowed."""
    by_name: dict[str, list[int]] = {}
    for place in allowed:
        by_name.setdefault(names[place], []).append(place)
    places = {}
    for column, synonyms in _NAMES.items():
        found = next((by_name[name] for name in synonyms if name in by_name), None)
        if found is None:
            continue
        if len(found) > 1:
            raise PricesInvalid(f"{file}, line {line}: column {titles[found[0]]} occurs {len(found)} times")
        places[column] = found[0]
    needed = DATE if DATE not in places else None if ADJUSTED in places or "Close" in places else "Close"
    if needed:
        shown = ", ".join(title.lower() for title in titles[:12] if title)
        raise PricesInvalid(f"{file}, line {line}: need a column {needed}, found {shown or 'no header'}")
    return places


def _symbol_place(names: list[str], rows: list[Row], ticker: str) -> int | None:
    place = next((names.index(name) for name in _SYMBOLS if name in names), None)
    if place is None or names[place] != "name" or not rows or place >= len(rows[0].cells):
        return place
    cell = rows[0].cells[place].strip()  # a column Name has tickers, or the name of a company
    return place if _is_of(cell, ticker) or TICKER_PATTERN.fullmatch(cell.upper()) else None


def _is_of(cell: str, ticker: str) -> bool:
    symbol = cell.strip().upper()
    return symbol == ticker or symbol == f"{ticker}.US"  # Stooq writes AAPL.US


def _other_tickers(file: str, ticker: str, others: set[str]) -> TickerNotFound:
    shown = ", ".join(repr(name) for name in sorted(others)[:5]) + (", …" if len(others) > 5 else "")
    return TickerNotFound(f"{file} has prices of {shown} and none of {ticker}", ticker=ticker)


def _plain(title: str) -> str:
    """A header name without case, accents, brackets and punctuation at its end."""
    letters = unicodedata.normalize("NFKD", title.strip()).encode("ascii", "ignore").decode()
    words = re.sub(r"[\s_]+", " ", letters.lower()).strip(" <>*.")
    return words.replace("adj. ", "adj ")
