"""Where answers go: tables, JSON or CSV on standard output, everything else on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import typer
from pydantic import BaseModel
from rich.console import RenderableType

from cli.as_csv import csv_of, parts_of
from cli.layout import Note, console
from cli.options import CSV, JSON, Form

AnswerT = TypeVar("AnswerT", bound=BaseModel)


def show(answer: AnswerT, table: Callable[[AnswerT], RenderableType], form: Form) -> None:
    """Print the answer as tables, as JSON or as CSV; next to CSV, its notes go to standard error."""
    if form is JSON:
        typer.echo(answer.model_dump_json())
        return
    shown = table(answer)
    if form is CSV:
        typer.echo(csv_of(answer, shown), nl=False)
        for note in (part for part in parts_of(shown) if isinstance(part, Note)):
            console(stderr=True).print(note)
        return
    console().print(shown)


def echo(text: str, *, stderr: bool = True) -> None:
    """Print a sentence: broken between words in a terminal, on one line elsewhere."""
    out = console(stderr=stderr)
    out.print(text, soft_wrap=not out.is_terminal)


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Report the file that the block draws; a file that cannot be written is a ``BadParameter``."""
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from error
    echo(f"plot written to {path}")
