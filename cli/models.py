"""Commands for stored models and their aliases."""

from typing import Annotated

import typer

from cli.options import After, Alias, Form, Limit, ModelId
from cli.output import echo, show
from cli.realised_tables import evaluations_table
from cli.tables import alias_table, card_table, model_table
from cli.target import target_of
from stock_forecast_client.models import AliasList

models_app = typer.Typer(help="Stored models: list, show, delete, alias, aliases, evaluations.", no_args_is_help=True)


@models_app.command("list")
def list_models(
    context: typer.Context,
    ticker: Annotated[str | None, typer.Option(help="Only models of this ticker.")] = None,
    limit: Limit = 20,
    after: After = None,
    form: Form = None,
) -> None:
    """List stored models with their accuracy and that of the no-change forecast."""
    with target_of(context).client() as client:
        show(client.models(ticker=ticker, limit=limit, after=after), model_table, form)


@models_app.command("show")
def show_model(context: typer.Context, model_id: ModelId = "default", form: Form = None) -> None:
    """Show a model's card."""
    with target_of(context).client() as client:
        show(client.model(model_id), card_table, form)


@models_app.command("delete")
def delete_model(
    context: typer.Context,
    model_id: Annotated[str, typer.Argument(help="Id of a model, not an alias.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a model and its files permanently."""
    if not yes:
        typer.confirm(f"delete {model_id} permanently?", abort=True)
    with target_of(context).client() as client:
        client.delete_model(model_id)
    echo(f"deleted {model_id}")


@models_app.command("alias")
def move_alias(context: typer.Context, alias: Alias, model_id: ModelId, form: Form = None) -> None:
    """Point an alias to a model."""
    with target_of(context).client() as client:
        moved = client.move_alias(alias, model_id)
    show(moved, lambda one: alias_table(AliasList(aliases=[one])), form)


@models_app.command("aliases")
def list_aliases(context: typer.Context, form: Form = None) -> None:
    """List the aliases that were ever moved."""
    with target_of(context).client() as client:
        show(client.aliases(), alias_table, form)


@models_app.command("evaluations")
def list_evaluations(
    context: typer.Context, alias: Alias = "default", limit: Limit = 20, after: After = None, form: Form = None
) -> None:
    """List the evaluations of challengers for an alias, with the scores of the no-change forecast."""
    with target_of(context).client() as client:
        show(client.evaluations(alias, limit=limit, after=after), evaluations_table, form)
