"""The command line: what it consists of, and how every error leaves it."""

from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from cli import demo, forecasting, realised, serving, training
from cli.exits import Exit, exit_code, fields_at_fault, format_error, hint, to_cli_terms
from cli.models import models_app
from cli.target import Target
from cli.training import jobs_app
from config import Settings
from errors import AppError

EPILOG = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 too many, 6 unavailable, 7 stored model unusable, "
    "8 not authenticated, 9 not installed, 130 interrupted."
)


class Commands(TyperGroup):
    """Tells every error in one line and a hint, and ends with the code of its family."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AppError as error:
            target = ctx.find_object(Target)
            line = format_error(error, elsewhere=target is not None and not target.is_local)
            typer.echo(f"error: {line}\nhint: {hint(error)}", err=True)
            raise typer.Exit(exit_code(error)) from error
        except ValidationError as error:
            of_settings = error.title == Settings.__name__
            faults = fields_at_fault(error) if of_settings else to_cli_terms(fields_at_fault(error))
            typer.echo(f"error: {faults}\nhint: see {'docs/configuration.md' if of_settings else '--help'}", err=True)
            raise typer.Exit(Exit.USAGE) from error


def choose_target(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar="STOCK_FORECAST_URL", help="A running service; this process without.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="STOCK_FORECAST_API_KEY", help="The key of that service.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")] = False,
) -> None:
    """Remember whom the command talks to."""
    context.obj = Target(url, api_key, verbose)


def command_line(*, completion: bool) -> typer.Typer:
    """All commands; ``completion`` adds the options that install it, which needs a program with a name of its own."""
    commands = typer.Typer(
        cls=Commands,
        callback=choose_target,
        help="Forecast daily stock prices with calibrated ranges and an honest track record. Runs locally; "
        "use --url to talk to a server.",
        epilog=EPILOG,
        add_completion=completion,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    for command in (
        forecasting.fetch,
        training.train,
        forecasting.predict,
        forecasting.forecast,
        forecasting.backtest,
        forecasting.analyze,
        realised.score,
        realised.accuracy,
        realised.drift,
        realised.retrain,
        serving.serve,
        demo.demo,
    ):
        commands.command()(command)
    commands.add_typer(models_app, name="models")
    commands.add_typer(jobs_app, name="jobs")
    return commands


app = command_line(completion=False)
