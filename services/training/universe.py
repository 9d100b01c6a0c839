"""Universes: named folders of prices that a model for every ticker is trained on."""

from dataclasses import dataclass
from pathlib import Path

from errors import UniverseNotFound
from services.prices.csv import CsvSource
from services.prices.market import MARKETS, MarketAwareSource
from services.prices.series import PriceSource

SUFFIX = ".csv"
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


class Universes:
    """The universes of an installation, a folder each in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, name: str) -> Path:
        return self._folder / name

    def get(self, name: str) -> Universe:
        """The universe of this name, or UniverseNotFound."""
        return Universe.in_folder(self.folder(name))
