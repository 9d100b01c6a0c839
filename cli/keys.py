"""The command that makes an API key."""

from typing import Annotated

import typer


def key(
    name: Annotated[str, typer.Argument(help="Name of the key, which the server's log and metrics show.")],
    rights: Annotated[str, typer.Option(help="What the key may do: read, train, or both with a comma.")] = "read",
) -> None:
    """Make an API key: print its secret, which is stored nowhere, and its entry for API_KEYS."""
    from services.access import new_key

    try:
        secret, made = new_key(name, rights.replace(" ", "").split(","))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    # each alone on its line: the entry is longer than most labels leave room for
    typer.echo(f"secret, shown only now:\n{secret}\nentry of API_KEYS:\n{made.entry}")
