"""Where answers go: a table or JSON on standard output, everything else on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import typer
from pydantic import BaseModel
from rich.console import RenderableType

from cli.layout import console

AnswerT = TypeVar("AnswerT", bound=BaseModel)


def show(answer: AnswerT, table: Callable[[AnswerT], RenderableType], *, as_json: bool) -> None:
    if as_json:
        typer.echo(answer.model_dump_json())
    else:
        console().print(table(answer))


def echo(text: str) -> None:
    """Print to standard error."""
    console(stderr=True).print(text)


@contextmanager
def drawing(path: Path) -> Iterator[None]:
    """Report the file that the block draws; a file that cannot be written is a ``BadParameter``."""
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from error
    echo(f"plot written to {path}")
