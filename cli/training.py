"""Commands for trainings: train, and the jobs that train."""

from functools import partial
from typing import Annotated, Any, get_args

import typer

from cli.following import follow_or_cancel, waiting_target
from cli.layout import console
from cli.options import After, End, Form, JobId, Limit, NoWait, Start, given
from cli.output import show
from cli.progress import TrainingBar
from cli.tables import job_table, jobs_table
from cli.target import Target, target_of
from cli.webhooks import WebhookSecret, WebhookUrl, once_announced, webhook_of
from stock_forecast_client import Client
from stock_forecast_client.errors import error_of_job
from stock_forecast_client.models import Job, TrainRequest


def _values(field: str) -> str:
    """The allowed values of a training field, for --help."""
    return f"[{'|'.join(get_args(TrainRequest.model_fields[field].annotation))}]"


jobs_app = typer.Typer(help="Training jobs: list, show, cancel, retry, watch.", no_args_is_help=True)


Kind = Annotated[str | None, typer.Option(metavar=_values("model"), help="Kind of model; return_lstm by default.")]
TrainSize = Annotated[float | None, typer.Option(help="Share of the windows before the test block; 0.8 by default.")]
Lookback = Annotated[int | None, typer.Option(help="Lookback, in sessions; 60 by default.")]
TargetColumn = Annotated[
    str | None, typer.Option(metavar=_values("target_column"), help="Price to forecast; Close by default.")
]
Epochs = Annotated[int | None, typer.Option(help="Most epochs; 50 by default.")]
Patience = Annotated[int | None, typer.Option(help="Stop after this many epochs without improvement; 5 by default.")]
Seed = Annotated[int | None, typer.Option(help="The same seed and data give the same weights.")]
Calibration = Annotated[
    str | None, typer.Option(metavar=_values("calibration"), help="Whether ranges adapt to recent misses.")
]
WarmStart = Annotated[
    bool | None,
    typer.Option(help="Start from the bundled model if it has not seen the calibration and test sessions."),
]
Base = Annotated[str | None, typer.Option(help="Start from the weights of this stored model.")]
PromoteTo = Annotated[
    str | None,
    typer.Option(help="Move this alias to the new model if it is better than the alias's current model."),
]
Alias = Annotated[str | None, typer.Option(help="Name the model: make this alias, or move it, when it is trained.")]


def train(
    context: typer.Context,
    tickers: Annotated[list[str], typer.Argument(help="One ticker, or several for a pooled model.")],
    model: Kind = None,
    start: Start = None,
    end: End = None,
    train_size: TrainSize = None,
    sequence_length: Lookback = None,
    target_column: TargetColumn = None,
    epochs: Epochs = None,
    patience: Patience = None,
    max_seconds: Annotated[float | None, typer.Option(help="Most seconds for the fit; 60 by default.")] = None,
    seed: Seed = None,
    calibration: Calibration = None,
    warm_start: WarmStart = None,
    base: Base = None,
    promote_to: PromoteTo = None,
    alias: Alias = None,
    webhook: WebhookUrl = None,
    webhook_secret: WebhookSecret = None,
    no_wait: NoWait = False,
    form: Form = None,
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
        alias=alias,
        webhook=webhook_of(context, webhook, webhook_secret),
    )
    request |= {"ticker": tickers[0]} if len(tickers) == 1 else {"tickers": tickers}
    _train(context, request, form, no_wait=no_wait)


def train_universe(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of a universe, see `universe list`.")],
    model: Kind = None,
    start: Start = None,
    end: End = None,
    train_size: TrainSize = None,
    sequence_length: Lookback = None,
    target_column: TargetColumn = None,
    epochs: Epochs = None,
    patience: Patience = None,
    max_seconds: Annotated[float | None, typer.Option(help="Most seconds for the fit; 3600 by default.")] = None,
    seed: Seed = None,
    calibration: Calibration = None,
    warm_start: WarmStart = None,
    base: Base = None,
    promote_to: PromoteTo = None,
    alias: Alias = None,
    webhook: WebhookUrl = None,
    webhook_secret: WebhookSecret = None,
    no_wait: NoWait = False,
    form: Form = None,
) -> None:
    """Train and store one model for every ticker, on a universe of prices; --json prints the job."""
    request = given(
        universe=name,
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
        alias=alias,
        webhook=webhook_of(context, webhook, webhook_secret),
    )
    _train(context, request, form, no_wait=no_wait)


@jobs_app.command("list")
def list_jobs(context: typer.Context, limit: Limit = 20, after: After = None, form: Form = None) -> None:
    """List jobs, newest first."""
    with target_of(context).client() as client:
        show(client.jobs(limit=limit, after=after), jobs_table, form)


@jobs_app.command("show")
def show_job(context: typer.Context, job_id: JobId, form: Form = None) -> None:
    """Show a job."""
    with target_of(context).client() as client:
        show(client.job(job_id), job_table, form)


@jobs_app.command("cancel")
def cancel_job(context: typer.Context, job_id: JobId, form: Form = None) -> None:
    """Cancel a job; its worker stops within seconds."""
    with target_of(context).client() as client:
        show(client.cancel_job(job_id), job_table, form)


@jobs_app.command("retry")
def retry_job(context: typer.Context, job_id: JobId, no_wait: NoWait = False, form: Form = None) -> None:
    """Start a failed, cancelled or lost job again, as a new job."""
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.retry_job(job_id), client, target, form, no_wait=no_wait)


@jobs_app.command("watch")
def watch_job(context: typer.Context, job_id: JobId, form: Form = None) -> None:
    """Follow a job to its end, and exit with the code of its error, if any."""
    with target_of(context).client() as client:
        _conclude(_follow(client, job_id), form)


def follow_visibly(job: Job, client: Client, target: Target) -> Job:
    """Wait for the job with a progress bar, and return it; Ctrl-C cancels a backtest, and any job of this process."""
    return follow_or_cancel(
        lambda: once_announced(_follow(client, job.id), partial(client.job, job.id), target),
        partial(client.cancel_job, job.id),
        cancels=target.is_local or job.kind == "backtest",
        cancelling=f"cancelling job {job.id}",
        continuing=f"job {job.id} continues on the server; see `jobs watch` and `jobs cancel`",
    )


def raise_failure(job: Job) -> None:
    """Raise the error that ended the job, if it has no result."""
    if job.result is None:
        raise error_of_job(job)


def _train(context: typer.Context, request: dict[str, Any], form: Form, *, no_wait: bool) -> None:
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.start_training(**request), client, target, form, no_wait=no_wait)


def _finish(job: Job, client: Client, target: Target, form: Form, *, no_wait: bool) -> None:
    if no_wait:
        show(job, job_table, form)
    else:
        _conclude(follow_visibly(job, client, target), form)


def _conclude(job: Job, form: Form) -> None:
    if form is not None or job.error is None:
        show(job, job_table, form)
    raise_failure(job)


def _follow(client: Client, job_id: str) -> Job:
    with TrainingBar(console(stderr=True)) as bar:
        return client.follow(job_id, bar)
