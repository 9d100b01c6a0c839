"""The command that finds symbols by name."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from cli.layout import UNKNOWN, columns, line, notes
from cli.options import AsJson
from cli.output import show
from cli.target import target_of
from stock_forecast_client.models import SymbolsFound


def symbols(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A name or a symbol; without it, what the price source has.")] = "",
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=50)] = 10,
    as_json: AsJson = False,
) -> None:
    """Find symbols by name, such as Petrobras."""
    with target_of(context).client() as client:
        answer = client.symbols(query, limit=limit)
    show(answer, symbols_table, as_json=as_json)


def symbols_table(answer: SymbolsFound) -> RenderableType:
    head = [] if answer.matched else [line(f"Nothing is called {answer.query!r} in the {answer.source} prices.")]
    if not answer.matched and answer.symbols:
        head.append(line("Did you mean one of these?"))
    table = columns("symbol", "name", "exchange", "currency")
    for column in table.columns:
        column.justify, column.overflow = "left", "fold"
    for one in answer.symbols:
        table.add_row(one.symbol, *(line(text or UNKNOWN) for text in (one.name, one.exchange, one.currency)))
    return Group(*head, *([table] if answer.symbols else []), *notes(filter(None, [answer.incomplete])))
