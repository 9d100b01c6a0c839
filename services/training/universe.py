"""Universes: named folders of prices that a model for every ticker is trained on."""

from dataclasses import dataclass
from pathlib import Path

from errors import TrainingUnavailable, UniverseNotFound
from schemas.train import UNIVERSE_NAME
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

    def get(self, name: str) -> Universe:
        """The universe of this name.

        Raises:
            UniverseNotFound: there is none.
            TrainingUnavailable: there is no disk.
        """
        return Universe.in_folder(self.folder(name))

    def names(self) -> tuple[str, ...]:
        """Folders with prices, ascending; other names than those of ``UniverseName`` cannot be trained on."""
        if self._folder is None or not self._folder.is_dir():
            return ()
        folders = (path for path in self._folder.iterdir() if path.is_dir() and any(path.glob(f"*{SUFFIX}")))
        return tuple(sorted(path.name for path in folders if UNIVERSE_NAME.fullmatch(path.name)))


NO_UNIVERSES = Universes(None)
