"""Where answers and drawings go: JSON as the API has it, or a table; a file, or a word why not."""

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
    """Print the answer to standard output."""
    if as_json:
        typer.echo(answer.model_dump_json())
    else:
        console().print(table(answer))


def echo(text: str) -> None:
    """Say something that is no answer, on standard error."""
    console(stderr=True).print(text)


@contextmanager
def drawn(path: Path) -> Iterator[None]:
    """Say where the drawing is.

    Raises:
        BadParameter: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from error
    echo(f"drawn into {path}")
