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
from cli.layout import UNKNOWN, columns, console, counted, line, notes
from cli.options import AsJson
from cli.output import show
from cli.progress import TickersBar
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
    as_json: AsJson = False,
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
    show(result, _download_table, as_json=as_json)
    failure = result.stopped or next(iter(result.failed), None)
    if failure is not None:
        raise typer.Exit(exit_code_of(failure.code))


@universe_app.command("list")
def list_universes(context: typer.Context, as_json: AsJson = False) -> None:
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
    show(found, _list_table, as_json=as_json)


@universe_app.command("show")
def show_universe(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show the tickers, sessions and exchanges of a universe."""
    from clock import utc_now
    from services.training.universe import report

    with _local(context, "universe show") as settings:
        universes = _universes(settings)
        with TickersBar(console(stderr=True)) as bar:
            found = report(universes.get(name), universes.folder(name), utc_now(), bar.ticker)
    show(found, _report_table, as_json=as_json)


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
    table = columns("universe", "tickers")
    for one in found.universes:
        table.add_row(one.name, f"{one.n_tickers:,}")
    return table if found.universes else line(f"no universe in {found.folder}; see `universe download --help`")


def _report_table(found: "UniverseReport") -> RenderableType:
    exchanges = columns("exchange", "tickers", "index", "implied volatility", "missing")
    for one in found.exchanges:
        cells = (one.index or UNKNOWN, one.implied_volatility or UNKNOWN, ", ".join(one.missing))
        exchanges.add_row(one.exchange, f"{one.n_tickers:,}", *cells)
    tickers = columns("ticker", "exchange", "sessions", "first", "last")
    for ticker in found.tickers:
        tickers.add_row(
            ticker.ticker,
            ticker.exchange,
            f"{ticker.n_sessions:,}",
            str(ticker.first_session),
            str(ticker.last_session),
        )
    title = f"{found.name}: {counted(len(found.tickers), 'ticker')}, {found.first_session} to {found.last_session}"
    left_out = notes(f"{one.ticker} is left out: {one.code}: {one.detail}" for one in found.unreadable)
    return Group(line(title), line(""), exchanges, line(""), tickers, *left_out)
