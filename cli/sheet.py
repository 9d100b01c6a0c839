"""Lays out a table for the width of the terminal. No figure, date, id or name is ever cut.

Where a table is too wide, the columns of the highest rank are left out, then those of the next. Where not even the
columns of rank 0 fit, each row becomes a block with one line for each column.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from cli.exits import sanitize

GAP = 2  # between two columns
UNKNOWN = "–"

Value = str | int | float | date | Sequence["Value"] | None
"""What a cell holds, unrounded: CSV has it as it is."""


def plain(value: Value) -> str:
    """A text, a whole number or a date; a dash if there is none.

    >>> plain("^GSPC"), plain(2516), plain(None)
    ('^GSPC', '2,516', '–')
    """
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else str(value)


@dataclass(frozen=True)
class Column:
    """One column of a sheet.

    Args:
        title: the heading; it may be broken between words.
        show: writes the value of a cell.
        names: names of the column's fields in CSV, by default the title's words. With several, a cell has as many
            values.
        rank: 0 for what a row means nothing without; the greater, the sooner the column is left out. Columns that
            are read together, such as a skill and its p-value, have one rank.
        left: whether it is text, which starts at the left.
        wraps: whether a cell may be broken between words: a list, or a name of several words.
        meaning: an explanation below the table, where the column is shown.
        style: a style of ``cli.layout.THEME``.
        only_csv: whether a terminal never shows it.
    """

    title: str
    show: Callable[[Any], str] = plain
    names: tuple[str, ...] = ()
    rank: int = 0
    left: bool = False
    wraps: bool = False
    meaning: str = ""
    style: str = ""
    only_csv: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        return self.names or (re.sub(r"\W+", "_", self.title.lower()),)


@dataclass
class Sheet:
    """A table: columns, and rows with one value for each of them."""

    name: str
    columns: Sequence[Column]
    rows: list[Sequence[Value]] = field(default_factory=list)

    def add(self, *values: Value) -> None:
        """Append a row.

        Raises:
            ValueError: there are not as many values as columns.
        """
        if len(values) != len(self.columns):
            raise ValueError(f"expected {len(self.columns)} values, found {len(values)}")
        self.rows.append(values)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = [_Shown(column, place, self.rows) for place, column in enumerate(self.columns) if not column.only_csv]
        chosen = _chosen(shown, options.max_width)
        if not chosen:
            yield from _blocks(shown, len(self.rows), options.max_width)
            yield from _meanings(shown)
            return
        yield _table(chosen, len(self.rows), options.max_width)
        yield from _meanings(chosen)
        left_out = [one.column.title for one in shown if one not in chosen]
        if left_out:
            yield Text(
                f"Not shown: {', '.join(left_out)}. Use a terminal of {_least(shown)} columns, --csv or --json.",
                style="faint",
            )


class _Shown:
    """A column with the texts of its cells and the widths that it can have."""

    def __init__(self, column: Column, place: int, rows: Sequence[Sequence[Value]]) -> None:
        self.column = column
        self.cells = [sanitize(column.show(row[place])) for row in rows]
        heading = max(map(cell_len, column.title.split()), default=0)
        longest = max(map(cell_len, self.cells), default=0)
        words = [word for cell in self.cells for word in cell.split()]
        self.least = max(heading, max(map(cell_len, words), default=0) if column.wraps else longest)
        self.best = max(cell_len(column.title), longest)


def _least(shown: Sequence[_Shown]) -> int:
    return sum(one.least for one in shown) + GAP * (len(shown) - 1)


def _chosen(shown: Sequence[_Shown], width: int) -> Sequence[_Shown]:
    """The columns that fit; none if those of rank 0 do not."""
    chosen = shown
    while _least(chosen) > width:
        highest = max(one.column.rank for one in chosen)
        if highest == 0:
            return []
        chosen = [one for one in chosen if one.column.rank < highest]
    return chosen


def _meanings(shown: Sequence[_Shown]) -> Iterator[Text]:
    explained = [f"{one.column.title}: {one.column.meaning}" for one in shown if one.column.meaning]
    if explained:
        yield Text("; ".join(explained))


def _table(chosen: Sequence[_Shown], n_rows: int, width: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="heading")
    spare = width - _least(chosen)
    for one in chosen:
        more = min(spare, one.best - one.least)
        spare -= more
        table.add_column(
            one.column.title,
            justify="left" if one.column.left else "right",
            width=one.least + more,
            style=one.column.style,
            overflow="fold",
        )
    for row in range(n_rows):
        table.add_row(*[Text(one.cells[row]) for one in chosen])
    return table


def _blocks(shown: Sequence[_Shown], n_rows: int, width: int) -> Iterator[RenderableType]:
    """The table turned: a block for each row, with every column."""
    titles = max(cell_len(one.column.title) for one in shown)
    for row in range(n_rows):
        if row:
            yield Text()
        for one in shown:
            cell = Text(one.cells[row], style=one.column.style, overflow="fold")
            title = Text(one.column.title.ljust(titles + GAP), style="heading", overflow="fold")
            if titles + GAP + one.least <= width:
                pair = Table.grid()
                pair.add_column(width=titles + GAP)
                pair.add_column(overflow="fold")
                pair.add_row(title, cell)
                yield pair
            else:  # a long id has a line of its own
                title.rstrip()
                yield title
                yield cell
