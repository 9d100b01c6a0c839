"""Dates as price files write them. The whole column decides whether day or month comes first; else it is refused."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from errors import PricesInvalid
from services.prices.csv.rows import Column, is_missing
from services.prices.series import Sessions

Part = Literal["year", "month", "day"]
Order = tuple[Part, Part, Part]
LocalDate = Callable[[datetime], date]
"""The date at the exchange at a moment."""

_YMD: Order = ("year", "month", "day")
_DMY: Order = ("day", "month", "year")
_MDY: Order = ("month", "day", "year")
YEARS = (1700, 2200)
_PIVOT = 69  # two digits: 69 is 1969 and 68 is 2068, as in POSIX
_CLOCK = (
    r"(?:(?:[T ]|, ?)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)?(?: ?(?P<half>[AP])M)?"
    r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
)
_UNIX_MS = 1e11  # seconds reach this in the year 5138, milliseconds in 1973
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WRITE_ISO = "write dates as YYYY-MM-DD"


class _Form(NamedTuple):
    """A way to write dates: groups a, b and c are the parts, in one of the orders."""

    pattern: re.Pattern[str]
    orders: tuple[Order, ...]


def _form(pattern: str, *orders: Order) -> _Form:
    return _Form(re.compile(pattern + _CLOCK, re.ASCII | re.IGNORECASE), orders)


_YEAR4, _ONE_OR_TWO, _YEAR = r"\d{4}", r"\d{1,2}", r"\d{4}|\d\d"
_NAME = r"[a-z]{3,9}"
_FORMS = (
    _form(rf"(?P<a>{_YEAR4})(?P<s>[-/.])(?P<b>{_ONE_OR_TWO})(?P=s)(?P<c>{_ONE_OR_TWO})", _YMD),
    _form(rf"(?P<a>{_ONE_OR_TWO})(?P<s>[-/.])(?P<b>{_ONE_OR_TWO})(?P=s)(?P<c>{_YEAR4})", _DMY, _MDY),
    _form(r"(?P<a>\d{4})(?P<b>\d\d)(?P<c>\d\d)", _YMD),
    _form(rf"(?P<a>{_ONE_OR_TWO})(?:[-/.]| (?:de )?)(?P<b>{_NAME})\.?(?:[-/.,]| (?:de )?|, )(?P<c>{_YEAR})", _DMY),
    _form(rf"(?P<a>{_NAME})\.?[- ](?P<b>{_ONE_OR_TWO})(?:, ?| |-)(?P<c>{_YEAR4})", _MDY),
    _form(rf"(?P<a>{_ONE_OR_TWO})(?P<s>[-/.])(?P<b>{_ONE_OR_TWO})(?P=s)(?P<c>{_ONE_OR_TWO})", _DMY, _MDY, _YMD),
)
_UNIX = re.compile(r"-?\d{1,13}(?:\.0*)?", re.ASCII)
_LONG_NUMBER = re.compile(r"-?\d{9,13}(?:\.0*)?", re.ASCII)

# fmt: off
_MONTH_NAMES = [
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
    "janeiro", "fevereiro", "marco", "abril", "maio", "junho",
    "julho", "agosto", "setembro", "outubro", "novembro", "dezembro",
]
# fmt: on
_MONTHS = {name: place % 12 + 1 for place, name in enumerate(_MONTH_NAMES)}
_MONTHS |= {name[:3]: month for name, month in _MONTHS.items()} | {"sept": 9}


class _Written(NamedTuple):
    """A date cell in its parts.

    Attributes:
        parts: as written, in the order of the file.
        clock: None where the cell has no time of day.
        offset: None where the cell has no offset from UTC.
    """

    parts: tuple[str, str, str]
    clock: time | None
    offset: timezone | None


def read_days(column: Column, local_date: LocalDate) -> Sessions:
    """The day of each cell, NaT where it is empty.

    A time with an offset becomes the date at the exchange. Where the time is midnight in every row, the written date
    counts.

    Args:
        column: the cells.
        local_date: the date at the exchange at a moment.

    Raises:
        PricesInvalid: a cell is not a date, or day and month are ambiguous; names file, line and column.
    """
    days = np.full(len(column.cells), np.datetime64("NaT"), dtype="datetime64[D]")
    filled = [index for index, cell in enumerate(column.cells) if not is_missing(cell)]
    if filled:
        texts = [_without_accents(column.cells[index]) for index in filled]
        days[filled] = np.array(list(_dates(column, filled, texts, local_date)), dtype="datetime64[D]")
    return days


def _dates(column: Column, places: list[int], texts: list[str], local_date: LocalDate) -> Iterator[date]:
    form = next((form for form in _FORMS if _fits_most(form.pattern, texts)), None)
    if form is None and _fits_most(_LONG_NUMBER, texts):
        return _from_unix(column, places, texts, local_date)
    return _from_form(form or _FORMS[0], column, places, texts, local_date)


def _fits_most(pattern: re.Pattern[str], texts: list[str]) -> bool:
    return 2 * sum(pattern.fullmatch(text) is not None for text in texts) >= len(texts)


def _from_form(
    form: _Form, column: Column, places: list[int], texts: list[str], local_date: LocalDate
) -> Iterator[date]:
    written = [_written(form, text, column, place) for place, text in zip(places, texts, strict=True)]
    days = _in_the_right_order(form, written, column, places)
    midnights = all(cell.clock in (None, time(0)) for cell in written)
    for day, cell, place in zip(days, written, places, strict=True):
        if midnights or cell.clock is None or cell.offset is None:
            yield day
        else:
            try:
                yield local_date(datetime.combine(day, cell.clock, cell.offset))
            except OverflowError:
                raise column.unreadable(place) from None


def _written(form: _Form, text: str, column: Column, place: int) -> _Written:
    match = form.pattern.fullmatch(text)
    if match is None:
        raise column.unreadable(place)
    parts = match["a"], match["b"], match["c"]
    if match["hour"] is None:
        return _Written(parts, None, None)
    try:
        return _Written(parts, _clock(match), _offset(match["zone"]))
    except ValueError:
        raise column.unreadable(place) from None


def _clock(match: re.Match[str]) -> time:
    hour = int(match["hour"])
    if match["half"]:
        if not 1 <= hour <= 12:
            raise ValueError(hour)
        hour = hour % 12 + (12 if match["half"] in "Pp" else 0)
    return time(hour, int(match["minute"]), int(match["second"] or 0))


def _offset(zone: str | None) -> timezone | None:
    if zone is None:
        return None
    if zone.upper() in ("Z", "UTC", "GMT"):
        return UTC
    digits = zone[1:].replace(":", "").ljust(4, "0")
    distance = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-distance if zone[0] == "-" else distance)


def _in_the_right_order(form: _Form, written: list[_Written], column: Column, places: list[int]) -> list[date]:
    """The dates in the one order of day, month and year that fits the whole column."""
    readings: list[list[date | None]] = [[_date(cell.parts, order) for cell in written] for order in form.orders]
    fitting: list[list[date]] = []
    for reading in readings:
        days = [day for day in reading if day is not None]
        if len(days) == len(reading) and days not in fitting:
            fitting.append(days)
    if not fitting:
        best = max(readings, key=lambda reading: len(reading) - reading.count(None))
        raise column.unreadable(places[best.index(None)])
    if any(_has_short_year(cell.parts) for cell in written):
        fitting = [days for days in fitting if _is_monotonic(days)]
        if len(fitting) != 1:
            raise column.unreadable(places[0], f"the year has two digits and can be misread: {_WRITE_ISO}")
    if len(fitting) == 1:
        return fitting[0]
    plausible = [days for days in fitting if _is_monotonic(days)]
    if len(plausible) == 1 and 2 * sum(day.weekday() < 5 for day in plausible[0]) > len(plausible[0]):
        return plausible[0]
    raise _ambiguous(fitting, column, places)


def _ambiguous(fitting: list[list[date]], column: Column, places: list[int]) -> PricesInvalid:
    first, second = fitting[:2]
    at = next(index for index in range(len(first)) if first[index] != second[index])
    return column.unreadable(places[at], f"it can be {first[at]} or {second[at]}; {_WRITE_ISO}")


def _has_short_year(parts: tuple[str, str, str]) -> bool:
    return not any(len(part) == 4 and part.isdigit() for part in parts)


def _date(parts: tuple[str, str, str], order: Order) -> date | None:
    named = dict(zip(order, parts, strict=True))
    month = _MONTHS.get(named["month"].lower()) if named["month"].isalpha() else int(named["month"])
    year = int(named["year"])
    if len(named["year"]) == 2:
        year += 1900 if year >= _PIVOT else 2000
    if month is None or not YEARS[0] <= year < YEARS[1]:
        return None
    try:
        return date(year, month, int(named["day"]))
    except ValueError:
        return None


def _is_monotonic(days: list[date]) -> bool:
    steps = [later.toordinal() - earlier.toordinal() for earlier, later in pairwise(days)]
    return all(step >= 0 for step in steps) or all(step <= 0 for step in steps)


def _from_unix(column: Column, places: list[int], texts: list[str], local_date: LocalDate) -> Iterator[date]:
    for text, place in zip(texts, places, strict=True):
        if not _UNIX.fullmatch(text):
            raise column.unreadable(place)
    seconds: NDArray[np.float64] = np.array([float(text) for text in texts])
    if np.median(np.abs(seconds)) >= _UNIX_MS:
        seconds = seconds / 1000
    midnights = bool((seconds % 86_400 == 0).all())
    for second, place in zip(seconds.tolist(), places, strict=True):
        moment = _EPOCH + timedelta(seconds=second)
        if not YEARS[0] <= moment.year < YEARS[1]:
            raise column.unreadable(place)
        yield moment.date() if midnights else local_date(moment)


def _without_accents(cell: str) -> str:
    """The cell without accents and surplus spaces."""
    text = " ".join(cell.split())
    if text.isascii():
        return text
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
