"""Commands for runs over many tickers: start, list, show, follow, results, cancel, resume."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Group, RenderableType

from cli.exits import Exit, exit_code_of
from cli.following import follow_or_cancel, waiting_target
from cli.layout import Facts, console, more, notes, share, to_minute
from cli.options import After, Form, Levels, Limit, given
from cli.output import echo, show
from cli.progress import RunBar
from cli.sheet import Column, Sheet
from cli.target import Target, target_of
from cli.training import Base, Calibration, Epochs, Kind, Lookback, Patience, Seed
from cli.webhooks import WebhookSecret, WebhookUrl, once_announced, webhook_of, webhook_rows
from stock_forecast_client import Client
from stock_forecast_client.models import Run, RunOptions, RunPage

run_app = typer.Typer(
    help="Runs over many tickers: start, list, show, follow, results, cancel, resume.", no_args_is_help=True
)

ACTIONS = get_args(RunOptions.model_fields["action"].annotation)

RunId = Annotated[str, typer.Argument(help="Id of a run.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return without waiting for the run; only with --url.")]


@run_app.command("start")
def start(
    context: typer.Context,
    action: Annotated[str, typer.Argument(metavar=f"[{'|'.join(ACTIONS)}]", help="What to do with each ticker.")],
    tickers: Annotated[list[str] | None, typer.Argument(help="Tickers, as on Yahoo Finance.")] = None,
    tickers_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text file with one ticker a line.")
    ] = None,
    universe: Annotated[str | None, typer.Option(help="Name of a universe, see `universe list`.")] = None,
    kind: Kind = None,
    epochs: Epochs = None,
    patience: Patience = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Most seconds for the fit of one ticker; 60 by default.")
    ] = None,
    sequence_length: Lookback = None,
    seed: Seed = None,
    calibration: Calibration = None,
    base: Base = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Move the alias of each ticker to its new model if that is better.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Model to backtest or forecast with; by default each ticker's own.")
    ] = None,
    horizon: Annotated[int | None, typer.Option(help="Sessions to forecast; 5 by default.")] = None,
    levels: Levels = None,
    webhook: WebhookUrl = None,
    webhook_secret: WebhookSecret = None,
    no_wait: NoWait = False,
    form: Form = None,
) -> None:
    """Train, fine-tune, backtest, forecast or score many tickers, and follow the run to its end."""
    training = given(
        model=kind,
        epochs=epochs,
        patience=patience,
        max_seconds=max_seconds,
        sequence_length=sequence_length,
        seed=seed,
        calibration=calibration,
        base_model_id=base,
    )
    request: dict[str, Any] = given(
        action=action,
        tickers=[*(tickers or ()), *_tickers_of(tickers_file)] or None,
        universe=universe,
        training=training or None,
        promote=promote or None,
        model_id=model,
        horizon=horizon,
        levels=levels or None,
        webhook=webhook_of(context, webhook, webhook_secret),
    )
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.start_run(**request), client, target, form, no_wait=no_wait)


@run_app.command("list")
def list_runs(context: typer.Context, limit: Limit = 20, after: After = None, form: Form = None) -> None:
    """List runs, newest first."""
    with target_of(context).client() as client:
        show(client.runs(limit=limit, after=after), _runs_table, form)


@run_app.command("show")
def show_run(context: typer.Context, run_id: RunId, form: Form = None) -> None:
    """Show a run."""
    with target_of(context).client() as client:
        show(client.run(run_id), _run_table, form)


@run_app.command("follow")
def follow_run(context: typer.Context, run_id: RunId, form: Form = None) -> None:
    """Follow a run to its end, and exit with the code of its first failure, if any."""
    with target_of(context).client() as client:
        _conclude(_follow(client, run_id), form)


@run_app.command("results")
def results(
    context: typer.Context,
    run_id: RunId,
    format_: Annotated[str, typer.Option("--format", metavar="[csv|parquet]", help="Format of the table.")] = "csv",
    output: Annotated[Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write into this file.")] = None,
) -> None:
    """Print the table of results, of the tickers that are done."""
    with target_of(context).client() as client:
        content = client.run_results(run_id, format=format_)
    if output is None:
        sys.stdout.buffer.write(content)
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {output}: {error.strerror}") from error
    echo(f"results written to {output}")


@run_app.command("cancel")
def cancel_run(context: typer.Context, run_id: RunId, form: Form = None) -> None:
    """Cancel a run; its workers stop within seconds."""
    with target_of(context).client() as client:
        show(client.cancel_run(run_id), _run_table, form)


@run_app.command("resume")
def resume_run(context: typer.Context, run_id: RunId, no_wait: NoWait = False, form: Form = None) -> None:
    """Try the tickers of a run again that failed, were cancelled or lost."""
    target = waiting_target(context, no_wait=no_wait)
    with target.client() as client:
        _finish(client.resume_run(run_id), client, target, form, no_wait=no_wait)


def _tickers_of(file: Path | None) -> list[str]:
    """The first cell of each line; ``#`` begins a comment. The API checks each ticker."""
    if file is None:
        return []
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    cells = [line_.partition("#")[0].replace(",", " ").replace(";", " ").split() for line_ in lines]
    return list(dict.fromkeys(found[0] for found in cells if found))


def _finish(run: Run, client: Client, target: Target, form: Form, *, no_wait: bool) -> None:
    if no_wait:
        show(run, _run_table, form)
        return
    ended = follow_or_cancel(
        lambda: once_announced(_follow(client, run.id), partial(client.run, run.id), target),
        partial(client.cancel_run, run.id),
        cancels=target.is_local,
        cancelling=f"cancelling run {run.id}; `run resume` continues it",
        continuing=f"run {run.id} continues on the server; see `run follow` and `run cancel`",
    )
    _conclude(ended, form)


def _follow(client: Client, run_id: str) -> Run:
    with RunBar(console(stderr=True)) as bar:
        return client.follow_run(run_id, bar)


def _conclude(run: Run, form: Form) -> None:
    show(run, _run_table, form)
    if run.state != "succeeded":
        first = next(iter(run.failures), None)
        code = {"cancelled": "job_cancelled", "lost": "job_lost"}.get(run.state, first.code if first else "")
        raise typer.Exit(exit_code_of(code) if code else Exit.FAILED)


def _run_table(run: Run) -> RenderableType:
    cancelling = run.cancel_requested and run.ended_at is None
    rows = [
        ("run", run.id),
        ("state", f"{run.state}, cancelling" if cancelling else run.state),
        ("action", f"{run.request.action} of {run.n_tickers:,} tickers"),
        ("tickers", _counts(run)),
        ("workers", run.engine),
    ]
    for name, moment in (("created", run.created_at), ("ended", run.ended_at)):
        if moment is not None:
            rows.append((name, f"{moment:%Y-%m-%d %H:%M:%S} UTC"))
    if run.base_model_id is not None:
        rows.append(("base model", run.base_model_id))
    if run.n_resumed:
        rows.append(("resumed", f"{run.n_resumed}×"))
    if run.reason is not None:
        rows.append(("reason", run.reason))
    rows += webhook_rows(run.webhook)
    lost = [f"worker {one.worker} was lost: {one.reason}" for one in run.lost_workers]
    failed = [f"{one.ticker}: {one.code}: {one.detail}" for one in run.failures]
    return Group(Facts(rows), *notes([*lost, *failed]))


def _counts(run: Run) -> str:
    found = {name: count for name, count in run.counts.model_dump().items() if count}
    return ", ".join(f"{count:,} {name}" for name, count in found.items())


def _runs_table(page: RunPage) -> RenderableType:
    table = Sheet(
        "runs",
        [
            Column("run", names=("run_id",), left=True),
            Column("action", left=True, rank=1),
            Column("state", left=True),
            Column("tickers", names=("n_tickers",), rank=2),
            Column("done", share, ("share",)),
            Column("created (UTC)", to_minute, ("created_at",), rank=3),
        ],
    )
    for run in page.runs:
        table.add(run.id, run.request.action, run.state, run.n_tickers, run.share, run.created_at)
    broken = notes(f"{run_id} cannot be read: its documents are damaged" for run_id in page.unreadable)
    return Group(table, *broken, *more(page.next_after))
