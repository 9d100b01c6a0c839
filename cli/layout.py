"""Builds tables and formats figures."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cli.exits import sanitize

PIPED_WIDTH = 160
UNKNOWN = "–"


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a wide page where there is none. Text is never read as markup."""
    found = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if found.is_terminal:
        return found
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=PIPED_WIDTH)


def columns(*names: str) -> Table:
    """A table with these headings; the first column holds names, the others figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    return table


def fact_sheet(rows: Iterable[tuple[str, str]] = ()) -> Table:
    """Rows of a name and a value."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def line(text: str) -> Text:
    return Text(sanitize(text))


def notes(texts: Iterable[str]) -> list[RenderableType]:
    return [Text(f"note: {sanitize(one)}", style="yellow") for one in texts]


def more(next_after: str | None) -> list[RenderableType]:
    """How to see the next page, if there is one."""
    return [] if next_after is None else [line(f"more: --after {next_after}")]


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


def format_skill(share: float | None) -> str:
    """Signed skill in percent; empty if persistence makes no error."""
    return "" if share is None else f"{share:+.2%}"


def format_p(p_value: float) -> str:
    """A p-value with two significant digits.

    >>> format_p(0.6), format_p(0.0312), format_p(1e-12)
    ('p = 0.60', 'p = 0.031', 'p < 0.0001')
    """
    return f"p = {p_value:#.2g}" if p_value >= 1e-4 else "p < 0.0001"


def p_cell(p_value: float | None) -> str:
    """A p-value for a column "p-value"; empty if there is none.

    >>> p_cell(0.6), p_cell(1e-12), p_cell(None)
    ('0.60', '< 0.0001', '')
    """
    return "" if p_value is None else format_p(p_value).removeprefix("p ").removeprefix("= ")
