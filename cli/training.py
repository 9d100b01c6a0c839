"""Commands for trainings: train, and the jobs that train."""

from contextlib import suppress
from typing import Annotated, get_args

import typer

from cli.layout import console
from cli.options import After, AsJson, End, JobId, Limit, NoWait, Start, given
from cli.output import echo, show
from cli.progress import TrainingBar
from cli.tables import job_table, jobs_table
from cli.target import Target, target_of
from stock_forecast_client import Client, StockForecastError
from stock_forecast_client.errors import error_of_job
from stock_forecast_client.models import Job, TrainRequest


def _values(field: str) -> str:
    """The allowed values of a training field, for --help."""
    return f"[{'|'.join(get_args(TrainRequest.model_fields[field].annotation))}]"


jobs_app = typer.Typer(help="Training jobs: list, show, cancel, retry, watch.", no_args_is_help=True)


def train(
    context: typer.Context,
    tickers: Annotated[list[str], typer.Argument(help="One ticker, or several for a pooled model.")],
    model: Annotated[
        str | None, typer.Option(metavar=_values("model"), help="Kind of model; return_lstm by default.")
    ] = None,
    start: Start = None,
    end: End = None,
    train_size: Annotated[
        float | None, typer.Option(help="Share of the windows before the test block; 0.8 by default.")
    ] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Lookback, in sessions; 60 by default.")] = None,
    target_column: Annotated[
        str | None, typer.Option(metavar=_values("target_column"), help="Price to forecast; Close by default.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs; 50 by default.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many epochs without improvement; 5 by default.")
    ] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Most seconds for the fit; 60 by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed and data give the same weights.")] = None,
    calibration: Annotated[
        str | None, typer.Option(metavar=_values("calibration"), help="Whether ranges adapt to recent misses.")
    ] = None,
    warm_start: Annotated[
        bool | None,
        typer.Option(help="Start from the bundled model if it has not seen the calibration and test sessions."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Start from the weights of this stored model.")] = None,
    promote_to: Annotated[
        str | None,
        typer.Option(help="Move this alias to the new model if it is better than the alias's current model."),
    ] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Train and store a model; --json prints the job."""
    request = given(
        model=model,
        start_date=start,
        end_date=end,
        train_size=train_size,
        sequence_length=sequence_length,
        target_column=target_column,
        epochs=epochs,
        patience=patience,
        max_seconds=max_seconds,
        seed=seed,
        calibration=calibration,
        warm_start=warm_start,
        base_model_id=base,
        promote_to=promote_to,
    )
    request |= {"ticker": tickers[0]} if len(tickers) == 1 else {"tickers": tickers}
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.start_training(**request), client, target, no_wait=no_wait, as_json=as_json)


@jobs_app.command("list")
def list_jobs(context: typer.Context, limit: Limit = 20, after: After = None, as_json: AsJson = False) -> None:
    """List jobs, newest first."""
    with target_of(context).client() as client:
        show(client.jobs(limit=limit, after=after), jobs_table, as_json=as_json)


@jobs_app.command("show")
def show_job(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job."""
    with target_of(context).client() as client:
        show(client.job(job_id), job_table, as_json=as_json)


@jobs_app.command("cancel")
def cancel_job(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job; its worker stops within seconds."""
    with target_of(context).client() as client:
        show(client.cancel_job(job_id), job_table, as_json=as_json)


@jobs_app.command("retry")
def retry_job(context: typer.Context, job_id: JobId, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Start a failed, cancelled or lost job again, as a new job."""
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.retry_job(job_id), client, target, no_wait=no_wait, as_json=as_json)


@jobs_app.command("watch")
def watch_job(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Follow a job to its end, and exit with the code of its error, if any."""
    with target_of(context).client() as client:
        _conclude(_follow(client, job_id), as_json=as_json)


def waiting_target(context: typer.Context, *, no_wait: bool) -> Target:
    """The target; ``BadParameter`` for ``--no-wait`` if the training would end with this process."""
    target = target_of(context)
    if no_wait and target.is_local:
        raise typer.BadParameter("--no-wait needs --url: a training in this process ends with it")
    return target


def follow_visibly(job: Job, client: Client, target: Target) -> Job:
    """Wait for the job with a progress bar, and return it; Ctrl-C cancels a job that runs in this process."""
    try:
        return _follow(client, job.id)
    except KeyboardInterrupt:
        if target.is_local:
            echo(f"cancelling job {job.id}")
            with suppress(StockForecastError):  # it is over, or the store is down: this process ends in any case
                client.cancel_job(job.id)
                client.follow(job.id)
        else:
            echo(f"job {job.id} continues on the server; see `jobs watch` and `jobs cancel`")
        raise


def raise_failure(job: Job) -> None:
    """Raise the error that ended the job, if it has no result."""
    if job.result is None:
        raise error_of_job(job)


def _finish(job: Job, client: Client, target: Target, *, no_wait: bool, as_json: bool) -> None:
    if no_wait:
        show(job, job_table, as_json=as_json)
    else:
        _conclude(follow_visibly(job, client, target), as_json=as_json)


def _conclude(job: Job, *, as_json: bool) -> None:
    if as_json or job.error is None:
        show(job, job_table, as_json=as_json)
    raise_failure(job)


def _follow(client: Client, job_id: str) -> Job:
    with TrainingBar(console(stderr=True)) as bar:
        return client.follow(job_id, bar)
