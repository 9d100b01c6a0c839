"""The command that shows the forecasts of the last nightly run."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from cli.exits import exit_code_of
from cli.layout import counted, line, more, notes, percent, price, signed_percent
from cli.options import Form, given
from cli.output import show
from cli.sheet import Column, Sheet, Value
from cli.tables import bounds, forecast_table_of_steps, range_columns
from cli.target import target_of
from stock_forecast_client.models import FailedTicker, LatestForecast, LatestForecasts, LatestTicker

MOVE = "expected move of the session, one standard deviation"


def latest(
    context: typer.Context,
    tickers: Annotated[
        list[str] | None, typer.Argument(help="By default every ticker of the run.", show_default=False)
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="ticker, change, move, relative_move, range or drift; with - in front in the opposite order.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of rows to show.")] = 50,
    after: Annotated[str | None, typer.Option(help="Show rows after this ticker.")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show all sessions of one ticker.")] = False,
    form: Form = None,
) -> None:
    """Show the forecasts of the last nightly run.

    They are read and not computed. `nightly` makes them.
    """
    if steps:
        if tickers is None or len(tickers) != 1:
            raise typer.BadParameter("--steps shows one ticker: name it")
        with target_of(context).client() as client:
            show(client.latest_forecast(tickers[0].upper()), ticker_table, form)
        return
    with target_of(context).client() as client:
        answer = client.latest_forecasts(tickers or None, **given(sort=sort, limit=limit, after=after))
    show(answer, latest_table, form)
    if not answer.forecasts and answer.failed:
        raise typer.Exit(exit_code_of(answer.failed[0].code))


def latest_table(answer: LatestForecasts) -> RenderableType:
    """A row for each ticker: the next close next to no change, its ranges, and how unusual the expected move is."""
    table = Sheet(
        "forecasts",
        [
            Column("ticker", left=True),
            Column("session"),
            Column("close", price, ("last_close",), rank=5),
            Column("forecast", price, ("price",), style="forecast"),
            Column("change", signed_percent, ("change_pct",), rank=1),
            Column("no change", price, ("persistence",), style="no change"),
            *range_columns(answer.levels, rank_of_others=4),
            Column("move", percent, ("expected_move_pct",), rank=3, meaning=MOVE),
            Column("usual", percent, ("usual_move_pct",), rank=3, meaning="its median of a year"),
            Column("drift", left=True, rank=2),
            Column("as of", rank=6),
            Column("stale", _stale, rank=6, left=True),
            Column("model", names=("model_id",), left=True, only_csv=True),
        ],
    )
    for one in answer.forecasts:
        table.add(*_row(one))
    n_hidden = answer.n_failed - len(answer.failed)
    hidden = [f"{counted(n_hidden, 'more ticker')} without a forecast"] if answer.failed and n_hidden > 0 else []
    return Group(
        line(_head(answer)),
        table,
        *more(answer.next_after),
        *notes([*_age(answer), *failures(answer.failed), *hidden]),
    )


def ticker_table(answer: LatestTicker) -> RenderableType:
    """All steps of one ticker."""
    head = (
        f"{answer.ticker} ({answer.currency or 'currency unknown'}), last close {price(answer.last_close)} on "
        f"{answer.as_of}, model {answer.model_id}, published {answer.published_at:%Y-%m-%d %H:%M} UTC"
    )
    stale = ["a newer session has closed since"] if answer.stale else []
    table = forecast_table_of_steps(answer.ticker, answer.model_id, answer.forecast)
    return Group(line(head), table, line(answer.explanation.sentence), *notes([*stale, *answer.warnings]))


def failures(failed: Sequence[FailedTicker]) -> list[str]:
    """A line for each ticker without a forecast."""
    return [f"{one.ticker} has no forecast: {one.code}: {one.detail}" for one in failed]


def _head(answer: LatestForecasts) -> str:
    models = ", ".join(f"{one.model_id} ({counted(one.n_tickers, 'ticker')})" for one in answer.models[:3])
    others = f" and {counted(answer.n_models - 3, 'other')}" if answer.n_models > 3 else ""
    return (
        f"published {answer.made_at:%Y-%m-%d %H:%M} UTC, prices up to {answer.as_of}: "
        f"{counted(answer.n_tickers, 'ticker')} by {models}{others}"
    )


def _age(answer: LatestForecasts) -> list[str]:
    if answer.stale:
        return ["a newer session has closed than these forecasts know: run `nightly`"]
    return [f"{counted(answer.n_stale, 'ticker')} without the newest prices"] if answer.n_stale else []


def _row(one: LatestForecast) -> list[Value]:
    return [
        one.ticker,
        one.session,
        one.last_close,
        one.price,
        one.change_pct,
        one.persistence,
        *bounds(one.intervals),
        one.expected_move_pct,
        one.usual_move_pct,
        one.drift,
        one.as_of,
        one.stale,
        one.model_id,
    ]


def _stale(stale: bool) -> str:
    return "stale" if stale else ""
