"""Commands around stored models and their names."""

from typing import Annotated

import typer

from cli.options import After, AsJson, Limit
from cli.output import echo, show
from cli.realised_tables import contest_table
from cli.tables import alias_table, card_table, model_table
from cli.target import target_of
from schemas.alias import AliasList

models_app = typer.Typer(help="Stored models: list, show, delete, alias, aliases, contests.", no_args_is_help=True)

ModelId = Annotated[str, typer.Argument(help="Id of a model, or an alias.")]


@models_app.command("list")
def list_models(
    context: typer.Context,
    ticker: Annotated[str | None, typer.Option(help="Only models of this ticker.")] = None,
    limit: Limit = 20,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Show stored models, with what they are worth beside persistence."""
    with target_of(context).client() as client:
        show(client.models(ticker=ticker, limit=limit, after=after), model_table, as_json=as_json)


@models_app.command("show")
def show_model(context: typer.Context, model_id: ModelId = "default", as_json: AsJson = False) -> None:
    """Show a model's card."""
    with target_of(context).client() as client:
        show(client.model(model_id), card_table, as_json=as_json)


@models_app.command("delete")
def delete_model(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Id of a model; an alias will not do.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a model and its files, for good."""
    if not yes:
        typer.confirm(f"remove {model_id} for good?", abort=True)
    with target_of(context).client() as client:
        client.delete_model(model_id)
    echo(f"{model_id} is gone")


@models_app.command("alias")
def move_alias(
    context: typer.Context,
    alias: Annotated[str, typer.Argument(help="A name, such as default.")],
    model_id: ModelId,
    as_json: AsJson = False,
) -> None:
    """Let a name stand for a model."""
    with target_of(context).client() as client:
        moved = client.move_alias(alias, model_id)
    show(moved, lambda one: alias_table(AliasList(aliases=(one,))), as_json=as_json)


@models_app.command("aliases")
def list_aliases(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every alias that was ever moved."""
    with target_of(context).client() as client:
        show(client.aliases(), alias_table, as_json=as_json)


@models_app.command("contests")
def list_contests(
    context: typer.Context,
    alias: Annotated[str, typer.Argument(help="A name, such as default.")] = "default",
    limit: Limit = 20,
    after: After = None,
    as_json: AsJson = False,
) -> None:
    """Show who challenged an alias and what came of it, beside persistence."""
    with target_of(context).client() as client:
        show(client.contests(alias, limit=limit, after=after), contest_table, as_json=as_json)
