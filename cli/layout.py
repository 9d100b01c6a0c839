"""Consoles, the colours of the page, lines of text, and how figures are written."""

import math
import shlex
import shutil
from collections.abc import Iterable
from datetime import datetime

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from cli.exits import sanitize
from cli.sheet import GAP, UNKNOWN

PIPED_WIDTH = 100
DIGITS = 4  # significant digits of a figure that is no price

ACCENT, ORANGE = "#1f8a84", "#c8632a"
THEME = Theme(
    {
        "heading": "bold",
        "faint": "dim",
        "forecast": ACCENT,
        "no change": ORANGE,
        "note": ORANGE,
        "bar.complete": ACCENT,
        "bar.finished": ACCENT,
        "bar.pulse": ACCENT,
        "progress.percentage": ACCENT,
        "progress.spinner": ACCENT,
        "progress.elapsed": "dim",
    }
)
"""The page's accent and orange, between its light and its dark shade: a terminal's background is not known."""


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a page of 100 columns (or ``COLUMNS``) where there is none. Text is never read as markup."""
    found = Console(stderr=stderr, markup=False, highlight=False, emoji=False, theme=THEME)
    if not found.is_terminal:
        found.width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    return found


class Facts(Table):
    """Rows of a name and a value."""

    def __init__(self, rows: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(box=None, pad_edge=False, show_header=False, padding=(0, GAP, 0, 0))
        self.add_column(style="heading", no_wrap=True)
        self.add_column(overflow="fold")
        for name, value in rows:
            self.add_row(sanitize(name), sanitize(value))


class Note(Text):
    """A line for a person, which no table holds: a warning, or how to see more."""


def heading(text: str) -> Text:
    return Text(text, style="heading")


def line(text: str) -> Text:
    return Text(sanitize(text))


def notes(texts: Iterable[str]) -> list[RenderableType]:
    return [Note(f"note: {sanitize(one)}", style="note") for one in texts]


def more(next_after: str | None) -> list[RenderableType]:
    """How to see the next page, if there is one."""
    return [] if next_after is None else [Note(f"more: --after {shlex.quote(sanitize(next_after))}")]


def listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def level_name(level: float) -> str:
    """A coverage level in percent.

    >>> level_name(0.55), level_name(0.995)
    ('55%', '99.5%')
    """
    return f"{100 * level:g}%"


def counted(n: int, noun: str) -> str:
    """A count with its noun, which must have a regular plural.

    >>> counted(1, "session"), counted(1200, "session")
    ('1 session', '1,200 sessions')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def price(value: float | None) -> str:
    """Two decimals; six significant digits below 1; a dash for an unknown price.

    >>> price(2506.8501), price(0.00123456789), price(None)
    ('2,506.85', '0.00123457', '–')
    """
    if value is None:
        return UNKNOWN
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.6g}"


def band(bounds: tuple[float, float]) -> str:
    """Both bounds of a range of prices."""
    return f"{price(bounds[0])} – {price(bounds[1])}"


def figure(value: float | None) -> str:
    """Four significant digits; more if the number is whole beyond them; a dash if it is unknown.

    >>> figure(0.0123456), figure(9.99999), figure(123456.7), figure(0.0), figure(1e-9), figure(None)
    ('0.01235', '10.00', '123,457', '0', '1.000e-09', '–')
    """
    return UNKNOWN if value is None else _digits(value, "")


def percent(value: float | None) -> str:
    """A number of percent, as ``figure`` writes it."""
    return UNKNOWN if value is None else f"{_digits(value, '')}%"


def signed_percent(value: float | None) -> str:
    """The same with its sign."""
    return UNKNOWN if value is None else f"{_digits(value, '+')}%"


def share(value: float | None) -> str:
    """A fraction in percent, as ``figure`` writes it.

    >>> share(0.00522871), share(1.0), share(None)
    ('0.5229%', '100.0%', '–')
    """
    return percent(None if value is None else 100 * value)


def signed_share(value: float | None) -> str:
    """The same with its sign, for a change or a skill.

    >>> signed_share(0.00191), signed_share(-0.25)
    ('+0.1910%', '-25.00%')
    """
    return signed_percent(None if value is None else 100 * value)


def signed(value: float | None) -> str:
    """``figure`` with its sign."""
    return UNKNOWN if value is None else _digits(value, "+")


def _digits(value: float, sign: str) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{DIGITS - 1}e}".partition("e")[2])  # of the rounded value: 9.9999 is 10.00
    if exponent < -5:
        return f"{value:{sign}.{DIGITS - 1}e}"
    return f"{value:{sign},.{max(0, DIGITS - 1 - exponent)}f}"


def format_skill(share: float | None) -> str:
    """Signed skill in percent for a sentence; empty if persistence makes no error."""
    return "" if share is None else f"{share:+.2%}"


def to_minute(at: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{at:%Y-%m-%d %H:%M}"


def format_p(p_value: float) -> str:
    """A p-value with two significant digits.

    >>> format_p(0.6), format_p(0.0312), format_p(1e-12)
    ('p = 0.60', 'p = 0.031', 'p < 0.0001')
    """
    return f"p = {p_value:#.2g}" if p_value >= 1e-4 else "p < 0.0001"


def p_cell(p_value: float | None) -> str:
    """A p-value for a column "p-value".

    >>> p_cell(0.6), p_cell(1e-12), p_cell(None)
    ('0.60', '< 0.0001', '–')
    """
    return UNKNOWN if p_value is None else format_p(p_value).removeprefix("p ").removeprefix("= ")
