"""Rows and columns of cells from delimited text: finds the separator and counts the lines."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TextIO

from errors import PricesInvalid

SEPARATORS = (",", ";", "\t")
MAX_LINE = 1_000_000  # characters; a download of a thousand tickers has lines of 100,000

_NAMED_SEPARATOR = re.compile(r"\"?sep=([,;\t])\"?\s*", re.IGNORECASE)  # Excel reads and writes it

MISSING = frozenset({"", "nan", "null", "none", "n/a", "na", "#n/a", "-", "--", "–", "—", "inf", "-inf"})
"""Cells that stand for an unknown value, in lower case."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row and the line on which it begins."""

    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class Column:
    """The cells of one column, and their places for error messages.

    Attributes:
        file: the name of the file.
        title: the column's name in the header.
        lines: the line of each cell, shared by the columns of a file.
        cells: the text of each cell.
    """

    file: str
    title: str
    lines: list[int]
    cells: list[str] = field(default_factory=list)

    def unreadable(self, index: int, why: str = "") -> PricesInvalid:
        shown = self.cells[index].strip()[:40]
        reason = f": {why}" if why else ""
        return PricesInvalid(f"{self.file}, line {self.lines[index]}: cannot read {shown!r} as {self.title}{reason}")


def is_missing(cell: str) -> bool:
    return cell.strip().lower() in MISSING


def bounded_lines(stream: TextIO, file: str) -> Iterator[str]:
    """The lines of a text stream.

    Raises:
        PricesInvalid: a line is longer than ``MAX_LINE`` characters.
    """
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise PricesInvalid(f"{file}, line {number}: the line is longer than {MAX_LINE:,} characters")
        yield line


def split_rows(lines: Iterable[str], file: str) -> Iterator[Row]:
    """The rows of a table that have at least one cell with text.

    The separator is the one that splits the first line into the most cells, or the one that a first line ``sep=;``
    names.

    Raises:
        PricesInvalid: the text is binary, or a quoted cell is not closed; names the line.
    """
    numbered = _without_nul(lines, file)
    first_line, first = next(
        ((number, text) for number, line in numbered if (text := line.lstrip("\ufeff")).strip()), (0, "")
    )
    rest = (line for _, line in numbered)
    if named := _NAMED_SEPARATOR.fullmatch(first):
        yield from _rows(rest, named[1], first_line, file)
    else:
        unquoted = re.sub(r'"[^"]*"', "", first)
        yield from _rows(chain([first], rest), max(SEPARATORS, key=unquoted.count), first_line - 1, file)


def _without_nul(lines: Iterable[str], file: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise PricesInvalid(f"{file}, line {number}: the file is not text: it has NUL bytes")
        yield number, line


def _rows(lines: Iterable[str], separator: str, before: int, file: str) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t", strict=True)
    while True:
        line = before + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error:
            raise PricesInvalid(f"{file}, line {line}: cannot split the row into cells; check its quotes") from None
        if cells is None:
            return
        if any(cell and not cell.isspace() for cell in cells):
            yield Row(line, cells)
