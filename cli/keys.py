"""The command that makes an API key."""

from typing import Annotated

import typer

from services.access import RIGHTS, new_key


def key(
    name: Annotated[str, typer.Argument(help="Name of the key, which the server's log and metrics show.")],
    rights: Annotated[str, typer.Option(help="What the key may do: read, train, or both with a comma.")] = RIGHTS[0],
) -> None:
    """Make an API key: print its secret, which is stored nowhere, and its entry for API_KEYS."""
    try:
        secret, made = new_key(name, rights.replace(" ", "").split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    typer.echo(f"secret, shown only now:  {secret}\nentry of API_KEYS:       {made.entry}")
