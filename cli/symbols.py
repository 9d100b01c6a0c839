"""The command that finds symbols by name."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType

from cli.layout import line, notes
from cli.options import Form
from cli.output import show
from cli.sheet import Column, Sheet
from cli.target import target_of
from stock_forecast_client.models import SymbolsFound


def symbols(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="A name or a symbol; without it, what the price source has.")] = "",
    limit: Annotated[int, typer.Option(help="At most this many.", min=1, max=50)] = 10,
    form: Form = None,
) -> None:
    """Find symbols by name, such as Petrobras."""
    with target_of(context).client() as client:
        answer = client.symbols(query, limit=limit)
    show(answer, symbols_table, form)


def symbols_table(answer: SymbolsFound) -> RenderableType:
    head = [] if answer.matched else [line(f"Nothing is called {answer.query!r} in the {answer.source} prices.")]
    if not answer.matched and answer.symbols:
        head.append(line("Did you mean one of these?"))
    table = Sheet(
        "symbols",
        [
            Column("symbol", left=True),
            Column("name", left=True, wraps=True),
            Column("exchange", left=True, wraps=True, rank=1),
            Column("currency", left=True, rank=2),
        ],
    )
    for one in answer.symbols:
        table.add(one.symbol, one.name or None, one.exchange or None, one.currency or None)
    return Group(*head, *([table] if answer.symbols else []), *notes(filter(None, [answer.incomplete])))
