"""Commands for universes, the folders of prices that a model for every ticker is trained on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType

from cli.exits import exit_code_of
from cli.layout import console, counted, line, listed, notes
from cli.options import Form
from cli.output import show
from cli.progress import TickersBar
from cli.sheet import Column, Sheet
from cli.target import configure_log, local_settings, target_of
from stock_forecast_client.errors import error_from

if TYPE_CHECKING:
    from config import Settings
    from schemas.universe import UniverseDownload, UniverseList, UniverseReport
    from services.training.universe import Universes

universe_app = typer.Typer(help="Universes of prices to train on: download, list, show.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of a universe.")]


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"expected a date such as 2010-01-31, found {text!r}") from None


@universe_app.command("download")
def download(
    context: typer.Context,
    tickers_file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Text file with one Yahoo symbol a line.")
    ],
    name: Annotated[str, typer.Option(help="Name of the universe; lower-case letters, digits, - and _.")],
    first_day: Annotated[str | None, typer.Option("--from", help="First session, YYYY-MM-DD; all by default.")] = None,
    form: Form = None,
) -> None:
    """Download daily prices from Yahoo Finance.

    The indices of the tickers' exchanges are added. Run it again to continue, or to add the newest sessions.
    """
    from schemas.common import UNIVERSE_NAME

    day = _day(first_day)
    if not UNIVERSE_NAME.fullmatch(name):
        raise typer.BadParameter(f"expected up to 64 lower-case letters, digits, - and _, found {name!r}")
    with _local(context, "universe download") as settings:
        result = _download(settings, name, tickers_file.read_text(encoding="utf-8", errors="replace"), day)
    show(result, _download_table, form)
    failure = result.stopped or next(iter(result.failed), None)
    if failure is not None:
        raise typer.Exit(exit_code_of(failure.code))


@universe_app.command("list")
def list_universes(context: typer.Context, form: Form = None) -> None:
    """List the universes of this machine."""
    from schemas.universe import ListedUniverse, UniverseList

    with _local(context, "universe list") as settings:
        universes = _universes(settings)
        found = UniverseList(
            folder=str(universes.folder("")),
            universes=tuple(
                ListedUniverse(name=name, n_tickers=len(universes.get(name).tickers)) for name in universes.names()
            ),
        )
    show(found, _list_table, form)


@universe_app.command("show")
def show_universe(context: typer.Context, name: Name, form: Form = None) -> None:
    """Show the tickers, sessions and exchanges of a universe."""
    from clock import utc_now
    from services.training.universe import report

    with _local(context, "universe show") as settings:
        universes = _universes(settings)
        with TickersBar(console(stderr=True)) as bar:
            found = report(universes.get(name), universes.folder(name), utc_now(), bar.ticker)
    show(found, _report_table, form)


@contextmanager
def _local(context: typer.Context, command: str) -> "Iterator[Settings]":
    """The settings of this process, whose folders the command uses; errors become those of the client."""
    from errors import AppError

    target = target_of(context)
    target.validate_local(command)
    configure_log(verbose=target.verbose)
    try:
        yield local_settings()
    except AppError as error:
        raise error_from(
            error.code, error.message, error.status_code, retry_after_s=error.retry_after_s, context=error.context
        ) from error


def _universes(settings: "Settings") -> "Universes":
    from bootstrap import universes_of

    return universes_of(settings)


def _download(settings: "Settings", name: str, tickers: str, first_day: date | None) -> "UniverseDownload":
    from bootstrap import cached_prices, yahoo_fetcher
    from clock import utc_now
    from services.prices.patient import PatientFetcher
    from services.training.download import download_universe, read_tickers, with_markets

    folder = _universes(settings).folder(name)
    wanted = with_markets(read_tickers(tickers))
    with TickersBar(console(stderr=True)) as bar:

        def wait(wait_s: float) -> None:
            bar.waiting(wait_s)
            time.sleep(wait_s)

        fetcher = PatientFetcher(yahoo_fetcher(settings), wait)
        prices = cached_prices(settings, fetcher)
        return download_universe(folder, wanted, fetcher, prices, utc_now, first_day=first_day, on_ticker=bar.ticker)


def _download_table(result: "UniverseDownload") -> RenderableType:
    known = counted(result.n_downloaded + result.n_up_to_date, "file")
    rows: list[RenderableType] = [
        line(f"{result.name}: {known} in {result.folder}, {result.n_downloaded:,} of them downloaded now")
    ]
    rows += notes(f"{one.ticker}: {one.code}: {one.detail}" for one in result.failed)
    if result.stopped is not None:
        left = counted(len(result.not_tried), "ticker")
        rows += notes([f"stopped, because Yahoo keeps refusing: {left} left; run the same command later to continue"])
    return Group(*rows)


def _list_table(found: "UniverseList") -> RenderableType:
    table = Sheet("universes", [Column("universe", left=True), Column("tickers", names=("n_tickers",))])
    for one in found.universes:
        table.add(one.name, one.n_tickers)
    return table if found.universes else line(f"no universe in {found.folder}; see `universe download --help`")


def _report_table(found: "UniverseReport") -> RenderableType:
    exchanges = Sheet(
        "exchanges",
        [
            Column("exchange", left=True),
            Column("tickers", names=("n_tickers",)),
            Column("index", left=True),
            Column("implied volatility", left=True),
            Column("missing", listed, left=True, wraps=True),
        ],
    )
    for one in found.exchanges:
        exchanges.add(one.exchange, one.n_tickers, one.index, one.implied_volatility, one.missing)
    tickers = Sheet(
        "tickers",
        [
            Column("ticker", left=True),
            Column("exchange", left=True),
            Column("sessions", names=("n_sessions",)),
            Column("first", names=("first_session",)),
            Column("last", names=("last_session",)),
        ],
    )
    for ticker in found.tickers:
        tickers.add(ticker.ticker, ticker.exchange, ticker.n_sessions, ticker.first_session, ticker.last_session)
    title = f"{found.name}: {counted(len(found.tickers), 'ticker')}, {found.first_session} to {found.last_session}"
    left_out = notes(f"{one.ticker} is left out: {one.code}: {one.detail}" for one in found.unreadable)
    return Group(line(title), line(""), exchanges, line(""), tickers, *left_out)
