"""The plainest price files, which are also the most frequent, read at once instead of cell by cell.

Whatever is not plain is left to ``formats``, ``dates`` and ``numbers``, which also report what is wrong. A plain file
gives the same values here as there.
"""

from operator import methodcaller

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from services.prices.csv.dates import YEARS
from services.prices.csv.formats import DATE, MAX_ROWS, plain_places
from services.prices.series import Sessions

MAX_PLAIN_BYTES = 4 * 2**20  # 40,000 rows; larger files are read line by line, in bounded memory
MAX_PLAIN_LINE = 1000  # characters

_MARK = b"\xef\xbb\xbf"  # some programs begin UTF-8 with it
_LETTERS = b"0123456789.-,\nnul"  # with these alone, a cell has no exponent, no thousands, no quotes and no currency
_FIRST, _LAST = (np.datetime64(f"{year}-01-01") for year in YEARS)


def read_plain(data: bytes) -> tuple[Sessions, dict[str, NDArray[np.float64]]] | None:
    """The days and the other known columns of a plain file, in its order; None where it is not plain.

    Plain is one header, dates as YYYY-MM-DD in the first column, a decimal point, commas between cells, the same
    number of cells in every row, and an unknown value empty or null.
    """
    if len(data) > MAX_PLAIN_BYTES:
        return None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    head, _, body = data.removeprefix(_MARK).partition(b"\n")
    if len(head) > MAX_PLAIN_LINE or body.translate(None, _LETTERS):
        return None
    places, width = plain_places(head)
    lines = body.decode("ascii").removesuffix("\n").split("\n")
    if places.get(DATE) != 0 or len(lines) > MAX_ROWS or max(map(len, lines)) > MAX_PLAIN_LINE:
        return None
    if set(map(methodcaller("count", ","), lines)) != {width - 1}:
        return None
    cells = ",".join(lines).split(",")
    days = _days(cells[::width])
    if "" in cells:
        cells = [cell or "null" for cell in cells]
    titles = [title for title in places if title != DATE]
    text = ",".join(",".join(cells[places[title] :: width]) for title in titles)
    try:
        values = np.array(from_json(f"[{text}]"), dtype=np.float64)  # a number of JSON is one of ours, read faster
    except (ValueError, OverflowError):
        return None
    return None if days is None else (days, dict(zip(titles, values.reshape(len(titles), -1), strict=True)))


def _days(cells: list[str]) -> Sessions | None:
    text = "".join(cells)
    if set(map(len, cells)) != {10} or text[4::10].strip("-") or text[7::10].strip("-"):
        return None
    try:
        days: Sessions = np.array(cells, dtype="datetime64[D]")
    except ValueError:
        return None
    return days if days.min() >= _FIRST and days.max() < _LAST else None
