"""What tables are built from: columns, facts, lines, notes, and how a figure is written."""

from collections.abc import Iterable

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from cli.exits import sanitize

PIPED_WIDTH = 160
ONE_BLOCK = 1.0


def console(*, stderr: bool = False) -> Console:
    """A terminal, or a wide page where there is none; nothing in a text is taken for a command."""
    found = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    return (
        found
        if found.is_terminal
        else Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=PIPED_WIDTH)
    )


def columns(*names: str) -> Table:
    """A table with these headings; the first column holds names, the others figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number == 0 else "right", no_wrap=number == 0)
    return table


def fact_sheet() -> Table:
    """Rows of a name and what is to be told of it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def line(text: str) -> Text:
    """A line of text that cannot steer the terminal."""
    return Text(sanitize(text))


def notes(texts: Iterable[str]) -> list[RenderableType]:
    """What a reader should mind, a line each."""
    return [Text(f"note: {sanitize(one)}", style="yellow") for one in texts]


def more(next_after: str | None) -> list[RenderableType]:
    """How to see the next page, if there is one."""
    return [] if next_after is None else [line(f"more: --after {next_after}")]


def counted(n: int, what: str) -> str:
    """So many of a thing that has a regular plural.

    >>> counted(1, "session"), counted(1200, "session")
    ('1 session', '1,200 sessions')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def price(value: float | None) -> str:
    """A price for reading: cents where it has them, six digits where it is small, a dash where it is unknown.

    >>> price(2506.8501), price(0.00123456789), price(None)
    ('2,506.85', '0.00123457', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.2f}" if abs(value) >= ONE_BLOCK else f"{value:.6g}"


def format_skill(share: float | None) -> str:
    """A share of persistence's error, signed; empty where it makes none."""
    return "" if share is None else f"{share:+.2%}"
