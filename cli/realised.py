"""Commands that compare forecasts with what happened: score, accuracy, drift, retrain."""

from typing import Annotated

import typer

from cli.exits import Exit, exit_code_of
from cli.following import waiting_target
from cli.options import Form, Model, NoWait, given
from cli.output import show
from cli.realised_tables import accuracy_table, drift_table, retrain_table, score_table
from cli.target import target_of
from cli.training import follow_visibly, raise_failure
from stock_forecast_client.models import DriftOverview

Scored = Annotated[str | None, typer.Argument(help="By default every ticker with scores.", show_default=False)]


def score(context: typer.Context, form: Form = None) -> None:
    """Score past forecasts whose sessions have closed."""
    with target_of(context).client() as client:
        report = client.score()
    show(report, score_table, form)
    failed = [one for one in report.unscored if one.session is None]
    if failed:
        raise typer.Exit(exit_code_of(failed[0].code))


def accuracy(
    context: typer.Context,
    ticker: Scored = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only this model, by id or alias.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Number of most recent days.")] = 90,
    form: Form = None,
) -> None:
    """Show how accurate past forecasts were.

    Shows their errors next to those of the no-change forecast.
    """
    with target_of(context).client() as client:
        show(client.realised_accuracy(ticker, model, days), accuracy_table, form)


def drift(context: typer.Context, ticker: Scored = None, model: Model = None, form: Form = None) -> None:
    """Check whether a model still fits.

    The exit code is 1 if the status of any ticker is drifted.
    """
    with target_of(context).client() as client:
        overview = client.drift(ticker, model)
    show(overview, drift_table, form)
    if (code := _exit_of_drift(overview)) is not Exit.OK:
        raise typer.Exit(code)


def retrain(
    context: typer.Context,
    ticker: Annotated[str, typer.Argument(help="Ticker to check for drift and to train on.")],
    alias: Annotated[
        str | None,
        typer.Option(help="Alias of the model to challenge; `ticker/TICKER` if not given.", show_default=False),
    ] = None,
    only_on_drift: Annotated[bool | None, typer.Option(help="Train only if the status is drifted.")] = None,
    no_wait: NoWait = False,
    form: Form = None,
) -> None:
    """Train a challenger if a ticker's model has drifted.

    The challenger takes the ticker's alias only if it is better. Other tickers keep their model.
    """
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        answer = client.retrain(**given(ticker=ticker, alias=alias, only_on_drift=only_on_drift))
        if answer.job is not None and not no_wait:
            answer = answer.model_copy(update={"job": follow_visibly(answer.job, client, target)})
    show(answer, retrain_table, form)
    if answer.job is not None and not no_wait:
        raise_failure(answer.job)


def _exit_of_drift(overview: DriftOverview) -> Exit:
    if any(report.status == "drifted" for report in overview.reports):
        return Exit.FAILED
    return exit_code_of(overview.unjudged[0].code) if overview.unjudged else Exit.OK
