"""Universes: named folders of prices that a model for every ticker is trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from errors import AppError, TrainingUnavailable, UniverseNotFound
from schemas.common import UNIVERSE_NAME
from schemas.universe import UniverseExchange, UniverseFailure, UniverseReport, UniverseTicker
from services.prices.csv import CsvSource
from services.prices.market import MARKETS, MarketAwareSource
from services.prices.series import PriceSource

SUFFIX = ".csv"

OnTicker = Callable[[str, int, int], None]
"""Called before each ticker with it, the number of tickers that are done, and the number of all."""

_IMPLIED = {market.implied for market in MARKETS.values()}


@dataclass(frozen=True)
class Universe:
    """A folder of ``TICKER.csv`` files, the indices of the exchanges among them.

    Attributes:
        name: of the folder.
        tickers: ascending; without indices of implied volatility, which are no prices.
        prices: of these tickers, with their markets.
    """

    name: str
    tickers: tuple[str, ...]
    prices: PriceSource

    @classmethod
    def in_folder(cls, folder: Path) -> "Universe":
        """Raise UniverseNotFound where the folder has no prices."""
        found = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
        tickers = tuple(ticker for ticker in found if ticker not in _IMPLIED)
        if not tickers:
            raise UniverseNotFound(f"no universe {folder.name!r}: expected a folder of TICKER.csv files")
        return cls(folder.name, tickers, MarketAwareSource(CsvSource(folder)))


def report(universe: Universe, folder: Path, now: datetime, on_ticker: OnTicker = lambda *_: None) -> UniverseReport:
    """Tickers, sessions and exchanges of a universe; reads every file."""
    source = CsvSource(folder)
    tickers, unreadable = [], []
    for done, ticker in enumerate(universe.tickers):
        on_ticker(ticker, done, len(universe.tickers))
        try:
            series = source.history(ticker, now).series
        except AppError as error:
            unreadable.append(UniverseFailure(ticker=ticker, code=error.code, detail=error.message))
            continue
        tickers.append(
            UniverseTicker(
                ticker=ticker,
                exchange=series.exchange,
                n_sessions=len(series),
                first_session=series.first_session,
                last_session=series.last_session,
            )
        )
    return UniverseReport(
        name=universe.name,
        folder=str(folder),
        first_session=min((one.first_session for one in tickers), default=None),
        last_session=max((one.last_session for one in tickers), default=None),
        tickers=tuple(tickers),
        exchanges=tuple(_exchange(exchange, tickers, folder) for exchange in sorted({one.exchange for one in tickers})),
        unreadable=tuple(unreadable),
    )


def _exchange(exchange: str, tickers: Sequence[UniverseTicker], folder: Path) -> UniverseExchange:
    market = MARKETS.get(exchange)
    index, implied = (None, None) if market is None else (market.index, market.implied)

    def present(ticker: str | None) -> str | None:
        return ticker if ticker is not None and (folder / f"{ticker}{SUFFIX}").exists() else None

    return UniverseExchange(
        exchange=exchange,
        n_tickers=sum(one.exchange == exchange and one.ticker != index for one in tickers),
        index=present(index),
        implied_volatility=present(implied),
        missing=tuple(one for one in (index, implied) if one is not None and present(one) is None),
    )


class Universes:
    """The universes of an installation.

    Args:
        folder: has a folder for each; None where trainings run without a disk of their own, as on AWS Lambda.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def folder(self, name: str) -> Path:
        """The folder of a universe, which may not exist yet.

        Raises:
            TrainingUnavailable: there is no disk.
        """
        if self._folder is None:
            raise TrainingUnavailable("a universe needs a server with a disk: AWS Lambda has none to keep it on")
        return self._folder / name

    def _leads_outside(self, folder: Path) -> bool:
        """Whether the folder is a link to what is not in the folder of universes."""
        return self._folder is not None and not folder.resolve().is_relative_to(self._folder.resolve())

    def get(self, name: str) -> Universe:
        """The universe of this name.

        Raises:
            UniverseNotFound: there is none.
            TrainingUnavailable: there is no disk.
        """
        folder = self.folder(name)
        if self._leads_outside(folder):
            raise UniverseNotFound(f"the universe {name!r} is a link that leads out of the folder of universes")
        return Universe.in_folder(folder)

    def names(self) -> tuple[str, ...]:
        """Folders with prices whose names a request can have, ascending."""
        if self._folder is None or not self._folder.is_dir():
            return ()
        folders = (path for path in self._folder.iterdir() if path.is_dir() and any(path.glob(f"*{SUFFIX}")))
        return tuple(
            sorted(
                path.name for path in folders if UNIVERSE_NAME.fullmatch(path.name) and not self._leads_outside(path)
            )
        )


NO_UNIVERSES = Universes(None)
