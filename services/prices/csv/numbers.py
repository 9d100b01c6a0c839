"""Numbers as price files write them: decimal comma or point, thousands, currency signs, 1.2M."""

import math
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from services.prices.csv.rows import MISSING, Column

_PLAIN = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
_CURRENCY = re.compile(r"^([+-]?)\s*(?:R\$|US\$|[$€£])\s*|\s*(?:R\$|US\$|[$€£])$")
_SPACES = " '’\u00a0\u2009\u202f"  # thousands in some countries
_INTEGER = r"(?P<sign>[+-]?)(?P<whole>\d+|\d{{1,3}}(?:[{marks}]\d{{2,3}})*[{marks}]\d{{3}}|)"  # 1,234,567 or 12,34,567
_BY_DECIMAL = {
    mark: re.compile(
        _INTEGER.format(marks=other + _SPACES)
        + rf"(?:{re.escape(mark)}(?P<tail>\d*))?(?P<exponent>[eE][+-]?\d{{1,3}})?",
        re.ASCII,
    )
    for mark, other in ((".", ","), (",", "."))
}
_NUMERIC = re.compile(rf"[+-]?[\d.,{_SPACES}]+(?=[eE][+-]?\d|\s*[KMBT]?$)", re.ASCII | re.IGNORECASE)
_MAGNITUDES = {"K": "e3", "M": "e6", "B": "e9", "T": "e12"}
_COUNTS = ("Volume", "Tick volume")


def read_numbers(columns: Mapping[str, Column]) -> dict[str, NDArray[np.float64]]:
    """The values of each column; NaN for cells that stand for an unknown value.

    All columns together decide whether the file writes decimals with a comma. Only volumes may end in K, M, B or T.

    Raises:
        PricesInvalid: a cell is not a number, or its comma is ambiguous; names file, line and column.
    """
    if all(all(map(_PLAIN.fullmatch, column.cells)) for column in columns.values()):  # most files, several times faster
        return {name: np.array(list(map(float, column.cells))) for name, column in columns.items()}
    texts = {name: [_bare(cell) for cell in column.cells] for name, column in columns.items()}
    decimal = _decimal_mark_of_file(columns, texts)
    return {name: _values(column, texts[name], decimal, name in _COUNTS) for name, column in columns.items()}


def _bare(cell: str) -> str:
    """The cell without spaces and currency signs at its ends; empty if it stands for an unknown value."""
    if _PLAIN.fullmatch(cell):
        return cell
    text = _CURRENCY.sub(r"\1", cell.strip())
    return "" if text.lower() in MISSING else text


def _values(column: Column, texts: list[str], decimal: str, is_count: bool) -> NDArray[np.float64]:
    values = np.empty(len(texts))
    for index, text in enumerate(texts):
        if decimal == "." and _PLAIN.fullmatch(text):
            values[index] = float(text)
            continue
        value = _number(text, decimal, is_count)
        if value is None:
            raise column.unreadable(index)
        values[index] = value
    return values


def _number(text: str, decimal: str, is_count: bool) -> float | None:
    if not text:
        return math.nan
    magnitude = _MAGNITUDES.get(text[-1].upper(), "") if is_count else ""
    match = _BY_DECIMAL[decimal].fullmatch(text[:-1].rstrip() if magnitude else text)
    if match is None or not (match["whole"] or match["tail"]) or (magnitude and match["exponent"]):
        return None
    whole = re.sub(r"\D", "", match["whole"])
    return float(f"{match['sign']}{whole or 0}.{match['tail'] or 0}{match['exponent'] or magnitude}")


def _decimal_mark_of_file(columns: Mapping[str, Column], texts: Mapping[str, list[str]]) -> str:
    if not any("," in text or text.count(".") > 1 for cells in texts.values() for text in cells):
        return "."
    seen: dict[str, tuple[Column, int]] = {}
    unclear: tuple[Column, int] | None = None
    for name, cells in texts.items():
        for index, text in enumerate(cells):
            numeric = _NUMERIC.match(text)
            mark = _decimal_mark(numeric[0].strip()) if numeric else None
            if mark is not None:
                seen.setdefault(mark, (columns[name], index))
            elif "," in text and name not in _COUNTS and unclear is None:
                unclear = columns[name], index
    if len(seen) > 1:
        point, comma = seen["."], seen[","]
        column, index = max(point, comma, key=lambda place: place[0].lines[place[1]])
        raise column.unreadable(index, "the file writes decimals with a comma and with a point")
    if not seen and unclear is not None:
        column, index = unclear
        raise column.unreadable(index, "nothing in the file says whether the comma separates thousands or decimals")
    return next(iter(seen), ".")


def _decimal_mark(text: str) -> str | None:
    """The mark that must be the decimal separator of this number; None if it may be either."""
    marks = [letter for letter in text if letter in ",."]
    if not marks:
        return None
    last = marks[-1]
    other = "." if last == "," else ","
    if other in marks:
        return last  # 1.234,56
    if len(marks) > 1:
        return other  # 1.234.567
    whole, _, tail = text.lstrip("+-").partition(last)
    may_be_thousands = len(tail) == 3 and 1 <= len(whole) <= 3 and not whole.startswith("0")
    return None if may_be_thousands else last
