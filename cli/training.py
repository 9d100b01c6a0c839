"""Commands around trainings: train, and the jobs that do it."""

from contextlib import suppress
from typing import Annotated

import typer

from cli.layout import console
from cli.options import After, AsJson, End, Limit, Start, given
from cli.output import echo, show
from cli.progress import TrainingBar
from cli.tables import job_table, jobs_table
from cli.target import Target, target_of
from client import Client
from client.errors import failure_of
from errors import AppError
from schemas.job import Job
from schemas.train import CalibrationKind, ModelName, TargetColumn, TrainRequest

jobs_app = typer.Typer(help="Trainings as jobs: list, show, cancel, retry, watch.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Id of a job.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not follow the job; only with --url.")]


def train(
    context: typer.Context,
    tickers: Annotated[list[str], typer.Argument(help="One ticker, or several for a pooled model.")],
    model: Annotated[ModelName | None, typer.Option(help="Kind of model; return_lstm by default.")] = None,
    start: Start = None,
    end: End = None,
    train_size: Annotated[float | None, typer.Option(help="Share of the windows before the test block.")] = None,
    sequence_length: Annotated[int | None, typer.Option(help="Lookback, in sessions.")] = None,
    target_column: Annotated[TargetColumn | None, typer.Option(help="The price forecast.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most this many passes.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without improvement before stopping.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Wall-clock budget of the fit.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same data, same weights.")] = None,
    calibration: Annotated[CalibrationKind | None, typer.Option(help="Whether intervals follow their record.")] = None,
    warm_start: Annotated[bool | None, typer.Option(help="Start from the bundled model where that is fair.")] = None,
    base: Annotated[str | None, typer.Option(help="Continue from this model.")] = None,
    challenges: Annotated[
        str | None, typer.Option(help="Take this alias afterwards, but only by winning against its model.")
    ] = None,
    no_wait: NoWait = False,
    as_json: AsJson = False,
) -> None:
    """Train and store a model; --json prints the job that did."""
    whose = {"ticker": tickers[0]} if len(tickers) == 1 else {"tickers": tickers}
    wanted = TrainRequest.model_validate(
        whose
        | given(
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
            challenges=challenges,
        )
    )
    target = patient_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.train(wanted, wait=False), client, target, no_wait=no_wait, as_json=as_json)


@jobs_app.command("list")
def list_jobs(context: typer.Context, limit: Limit = 20, after: After = None, as_json: AsJson = False) -> None:
    """Show jobs, newest first."""
    with target_of(context).client() as client:
        show(client.jobs(limit=limit, after=after), jobs_table, as_json=as_json)


@jobs_app.command("show")
def show_job(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Show a job as it stands."""
    with target_of(context).client() as client:
        show(client.job(job_id), job_table, as_json=as_json)


@jobs_app.command("cancel")
def cancel_job(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job; its worker stops within seconds."""
    with target_of(context).client() as client:
        show(client.cancel_job(job_id), job_table, as_json=as_json)


@jobs_app.command("retry")
def retry_job(context: typer.Context, job_id: JobId, no_wait: NoWait = False, as_json: AsJson = False) -> None:
    """Do again what failed, was cancelled or lost, as a new job."""
    target = patient_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.retry_job(job_id), client, target, no_wait=no_wait, as_json=as_json)


@jobs_app.command("watch")
def watch_job(context: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Follow a job to its end, and end as it did."""
    with target_of(context).client() as client:
        _conclude(_followed(client, job_id), as_json=as_json)


def train_visibly(client: Client, request: TrainRequest) -> Job:
    """The job that has trained a model here, with a bar while it did; Ctrl-C cancels it.

    Raises:
        AppError: what the training met.
    """
    job = _followed_here(client, client.train(request, wait=False))
    if job.error is not None:
        raise failure_of(job)
    return job


def patient_target(context: typer.Context, *, no_wait: bool) -> Target:
    """The target, which is asked to wait for a training unless it goes on elsewhere.

    Raises:
        BadParameter: not to wait, where the training would end with this process.
    """
    target = target_of(context)
    if no_wait and target.is_local:
        raise typer.BadParameter("--no-wait needs --url: a training in this process ends with it")
    return target


def followed(job: Job, client: Client, target: Target) -> Job:
    """The job once it is over, with a bar until then; Ctrl-C cancels one that runs in this process."""
    return _followed_here(client, job) if target.is_local else _followed_there(client, job)


def _finish(job: Job, client: Client, target: Target, *, no_wait: bool, as_json: bool) -> None:
    if no_wait:
        show(job, job_table, as_json=as_json)
    else:
        _conclude(followed(job, client, target), as_json=as_json)


def _conclude(job: Job, *, as_json: bool) -> None:
    """Show the job that is over; raise what it met."""
    if as_json or job.error is None:
        show(job, job_table, as_json=as_json)
    if job.result is None:
        raise failure_of(job)


def _followed(client: Client, job_id: str) -> Job:
    with TrainingBar(console(stderr=True)) as bar:
        return client.follow(job_id, bar)


def _followed_here(client: Client, job: Job) -> Job:
    try:
        return _followed(client, job.id)
    except KeyboardInterrupt:
        echo(f"cancelling job {job.id}")
        with suppress(AppError):  # it was over, or the store is down: we end in any case
            client.cancel_job(job.id)
            client.follow(job.id)
        raise


def _followed_there(client: Client, job: Job) -> Job:
    try:
        return _followed(client, job.id)
    except KeyboardInterrupt:
        echo(f"job {job.id} goes on; see `jobs watch` and `jobs cancel`")
        raise
