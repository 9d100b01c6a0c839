"""The commands, and how every error is reported."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import demo, forecasting, keys, latest, mcp, nightly, realised, serving, symbols, training
from cli.exits import exit_code, format_error, hint
from cli.models import models_app
from cli.output import echo
from cli.runs import run_app
from cli.target import Target
from cli.training import jobs_app
from cli.universe import universe_app
from stock_forecast_client import StockForecastError

HELP = (
    "Forecast daily stock prices with calibrated ranges and an honest track record. Runs locally; "
    "use --url to talk to a server."
)
EPILOG = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict, 5 too many, 6 unavailable, 7 stored model unusable, "
    "8 not authenticated, 9 not installed, 130 interrupted."
)


class Commands(TyperGroup):
    """Reports an error in one line and a hint, and exits with the code of its family."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StockForecastError as error:
            target = ctx.find_object(Target)
            line = format_error(error, remote=target is not None and not target.is_local)
            echo(f"error: {line}")
            echo(f"hint: {hint(error)}")
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=Commands, help=HELP, epilog=EPILOG, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)
for command in (
    symbols.symbols,
    forecasting.fetch,
    training.train,
    training.train_universe,
    forecasting.predict,
    forecasting.forecast,
    forecasting.backtest,
    forecasting.analyze,
    latest.latest,
    realised.score,
    realised.accuracy,
    realised.drift,
    realised.retrain,
    nightly.nightly,
    nightly.forget,
    serving.serve,
    mcp.mcp,
    keys.key,
    demo.demo,
):
    app.command()(command)
app.add_typer(models_app, name="models")
app.add_typer(jobs_app, name="jobs")
app.add_typer(run_app, name="run")
app.add_typer(universe_app, name="universe")


@app.callback()
def choose_target(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar="STOCK_FORECAST_URL", help="Address of a server; without it, run locally.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="STOCK_FORECAST_API_KEY", help="API key of that server.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")] = False,
) -> None:
    context.obj = Target(url, api_key, verbose)
