"""Download a universe: a file of daily prices for each ticker, and for the indices of their exchanges."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path

from errors import AppError, InvalidRequest, PricesEmpty, PricesRateLimited, PricesUnreachable, UnknownExchange
from schemas.common import TICKER_PATTERN
from schemas.universe import UniverseDownload, UniverseFailure
from services.prices.csv import CsvSource
from services.prices.csv.writing import to_csv
from services.prices.exchanges import exchange_of
from services.prices.market import MARKETS
from services.prices.patient import PatientFetcher
from services.prices.series import PriceSource
from services.storage.store import locked
from services.training.universe import OnTicker

MOST_FAILURES = 3  # in a row: the price source is down, not its tickers
NOTES = "universe.json"
_HEADERS = ("TICKER", "SYMBOL")


def read_tickers(text: str) -> tuple[str, ...]:
    """The first cell of each line, without repetitions; ``#`` begins a comment.

    Raises:
        InvalidRequest: a cell cannot be a ticker, or there is none.
    """
    found: dict[str, None] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        cells = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        ticker = cells[0].strip("\"'").upper() if cells else ""
        if not ticker or (not found and ticker in _HEADERS):
            continue
        if not TICKER_PATTERN.fullmatch(ticker):
            raise InvalidRequest(f"line {number} of the tickers: {cells[0][:40]!r} cannot be a ticker")
        found[ticker] = None
    if not found:
        raise InvalidRequest("the list has no tickers: expected one a line")
    return tuple(found)


def with_markets(tickers: Sequence[str]) -> tuple[str, ...]:
    """The indices and implied volatilities of the tickers' exchanges, then the other tickers."""
    indices: dict[str, None] = {}
    for ticker in tickers:
        with suppress(UnknownExchange):
            if (market := MARKETS.get(exchange_of(ticker))) is not None:
                indices |= dict.fromkeys(filter(None, (market.index, market.implied)))
    return (*indices, *(ticker for ticker in tickers if ticker not in indices))


def download_universe(
    folder: Path,
    tickers: Sequence[str],
    fetcher: PatientFetcher,
    prices: PriceSource,
    clock: Callable[[], datetime],
    *,
    first_day: date | None = None,
    on_ticker: OnTicker = lambda *_: None,
) -> UniverseDownload:
    """Write a file for each ticker that has none with the newest session.

    A file appears whole or not at all, so an interrupted download continues where it stopped. It ends early once the
    price source keeps refusing.

    Args:
        folder: of the universe; created when missing.
        tickers: as in ``with_markets``.
        fetcher: is below the cache in ``prices``, and says whether it failed.
        prices: supplies the histories.
        clock: the current time.
        first_day: files begin here; None for whole histories.
        on_ticker: the progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = _Files(folder, first_day)
    failed: list[UniverseFailure] = []
    stopped: UniverseFailure | None = None
    n_downloaded = n_up_to_date = n_in_a_row = done = 0
    for done, ticker in enumerate(tickers):
        on_ticker(ticker, done, len(tickers))
        now = clock()
        if files.is_up_to_date(ticker, now):
            n_up_to_date += 1
            continue
        error = _download(ticker, files, fetcher, prices, now)
        if error is None:
            n_downloaded, n_in_a_row = n_downloaded + 1, 0
            continue
        failure = UniverseFailure(ticker=ticker, code=error.code, detail=error.message)
        failed.append(failure)
        n_in_a_row = n_in_a_row + 1 if isinstance(error, PricesUnreachable) else 0
        if isinstance(error, PricesRateLimited) or n_in_a_row == MOST_FAILURES:
            stopped = failure
            break
    return UniverseDownload(
        name=folder.name,
        folder=str(folder),
        n_downloaded=n_downloaded,
        n_up_to_date=n_up_to_date,
        failed=tuple(failed),
        not_tried=tuple(tickers[done + 1 :]),
        stopped=stopped,
    )


def _download(
    ticker: str, files: "_Files", fetcher: PatientFetcher, prices: PriceSource, now: datetime
) -> AppError | None:
    """Write the file of a ticker; the error where there are no new prices."""
    fetcher.failure = None
    try:
        exchange_of(ticker)  # a training will know the ticker's name alone
        history = prices.history(ticker, now)
        if fetcher.failure is not None:
            return fetcher.failure  # the cache answered with what it had
        series = history.series.between(files.first_day, None)
        if not len(series):
            return PricesEmpty(f"{ticker} has no session since {files.first_day}", ticker=ticker)
    except AppError as error:
        return error
    files.write(ticker, to_csv(series))
    return None


class _Files:
    """The files of a universe, and a note of the day from which each was downloaded."""

    def __init__(self, folder: Path, first_day: date | None) -> None:
        self._folder = folder
        self._source = CsvSource(folder)
        self.first_day = first_day
        self._from = None if first_day is None else first_day.isoformat()
        self._notes = _notes(folder)

    def is_up_to_date(self, ticker: str, now: datetime) -> bool:
        """Whether the file has the newest session and begins where it should."""
        if self._notes.get(ticker, "") != self._from:
            return False
        try:
            return not self._source.history(ticker, now).stale
        except AppError:
            return False

    def write(self, ticker: str, text: str) -> None:
        with locked(self._folder):  # another download of this universe keeps its notes in the same file
            self._notes = _notes(self._folder)
            if self._notes.pop(ticker, self._from) != self._from:
                self._write_notes()  # a crash between the two files must not leave the old note with the new prices
            _replace(self._folder / f"{ticker}.csv", text)
            self._notes[ticker] = self._from
            self._write_notes()

    def _write_notes(self) -> None:
        _replace(self._folder / NOTES, json.dumps({"from": self._notes}, indent=1, sort_keys=True))


def _notes(folder: Path) -> dict[str, str | None]:
    try:
        notes = json.loads((folder / NOTES).read_text(encoding="utf-8"))["from"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _replace(path: Path, text: str) -> None:
    """Write a file that a reader sees whole or not at all."""
    staged = path.with_name(f".{path.name}.tmp")
    with staged.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
