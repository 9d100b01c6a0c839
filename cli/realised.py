"""Commands that ask whether it came true: score, accuracy, drift, retrain."""

from typing import Annotated

import typer

from cli.exits import Exit, exit_code_of
from cli.options import AsJson, given
from cli.output import show
from cli.realised_tables import accuracy_table, drift_table, retrain_table, score_table
from cli.target import target_of
from cli.training import NoWait, followed, patient_target
from client.errors import failure_of
from schemas.realised import DriftOverview
from schemas.retrain import RetrainRequest

Scored = Annotated[str | None, typer.Argument(help="By default every ticker that was scored.", show_default=False)]


def score(context: typer.Context, as_json: AsJson = False) -> None:
    """Compare served forecasts whose sessions have closed with the closes that came."""
    with target_of(context).client() as client:
        report = client.score()
    show(report, score_table, as_json=as_json)
    failed = [one for one in report.unscored if one.session is None]
    if failed:
        raise typer.Exit(exit_code_of(failed[0].code))


def accuracy(
    context: typer.Context,
    ticker: Scored = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Only this model, by id or alias.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Sessions of the last so many days.")] = 90,
    as_json: AsJson = False,
) -> None:
    """Show what served forecasts were worth, beside persistence."""
    with target_of(context).client() as client:
        show(client.realised_accuracy(ticker, model, days), accuracy_table, as_json=as_json)


def drift(
    context: typer.Context,
    ticker: Scored = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Id of a stored model, or an alias.")] = "default",
    as_json: AsJson = False,
) -> None:
    """Ask whether a model still fits; ends with 1 where the status of any ticker is drifted."""
    with target_of(context).client() as client:
        overview = client.drift(ticker, model)
    show(overview, drift_table, as_json=as_json)
    if (code := _exit_of_drift(overview)) is not Exit.OK:
        raise typer.Exit(code)


def retrain(
    context: typer.Context,
    ticker: Annotated[str, typer.Argument(help="Whose drift is looked at, and who is trained on.")],
    alias: Annotated[str | None, typer.Option(help="Whose model is challenged; default without.")] = None,
    only_on_drift: Annotated[bool | None, typer.Option(help="Train only where the status is drifted.")] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Train a challenger where the model of an alias has drifted; it takes the alias only by winning."""
    wanted = RetrainRequest.model_validate(given(ticker=ticker, alias=alias, only_on_drift=only_on_drift))
    target = patient_target(context, no_wait=no_wait)
    with target.client() as client:
        answer = client.retrain(wanted)
        if answer.job is not None and not no_wait:
            answer = answer.model_copy(update={"job": followed(answer.job, client, target)})
    show(answer, retrain_table, as_json=as_json)
    if answer.job is not None and answer.job.ended_at is not None and answer.job.result is None:
        raise failure_of(answer.job)


def _exit_of_drift(overview: DriftOverview) -> Exit:
    if any(report.status == "drifted" for report in overview.reports):
        return Exit.FAILED
    return exit_code_of(overview.unjudged[0].code) if overview.unjudged else Exit.OK
