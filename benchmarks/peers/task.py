"""What every method of the comparison receives: prices that end at an origin, and the quantiles that it must return.

This file needs numpy alone, because the methods run in two environments. ``forecasts`` is the only place that cuts
histories at an origin, so no method can see a later close.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Sessions = NDArray[np.datetime64]
Rows = NDArray[np.intp]

CLOSE = 3  # column of ``Past.bars``
HORIZON = 20
LEVELS: Values = np.union1d(np.arange(1, 100) / 100, [0.025, 0.975])
"""The grid on which every method states its quantiles: that of the CRPS, and the bounds of the 95 % interval."""


@dataclass(frozen=True, eq=False)
class Past:
    """One ticker's history up to some session, oldest first.

    Attributes:
        ticker: its symbol.
        sessions: shape (n,).
        bars: open, high, low, close, volume and the five columns of its market, shape (n, 10).
    """

    ticker: str
    sessions: Sessions
    bars: Values

    @property
    def closes(self) -> Values:
        return self.bars[:, CLOSE]

    def up_to(self, row: int) -> "Past":
        """The history whose last session is this row; a copy, so that it has no way back to later rows."""
        return Past(self.ticker, self.sessions[: row + 1].copy(), self.bars[: row + 1].copy())

    def before(self, day: np.datetime64) -> "Past":
        """The history without this day and later ones."""
        return self.up_to(int(np.searchsorted(self.sessions, day)) - 1)


@dataclass(frozen=True, eq=False)
class Known:
    """What a fit may use: nothing of it lies in the test.

    Attributes:
        tested: the tickers that will be forecast.
        others: the tickers that a model of several tickers may learn from too.
        stop_from: first session of the part on which a fit stops or calibrates.
    """

    tested: tuple[Past, ...]
    others: tuple[Past, ...]
    stop_from: np.datetime64


class Method(Protocol):
    """A way to forecast. It is fitted in one process and may be loaded in another."""

    def fit(self, known: Known, folder: Path) -> None:
        """Learn from what is known before the test and write the ready models into this folder."""

    def load(self, folder: Path) -> None:
        """Read what ``fit`` wrote."""

    def forecast(self, pasts: Sequence[Past]) -> Values:
        """Quantiles of the closes after the end of each history, shape (len(pasts), HORIZON, len(LEVELS)).

        Tickers may differ; all histories end at the same origin.
        """


@dataclass(frozen=True, eq=False)
class Task:
    """The prices, and the origins from which every method forecasts.

    Attributes:
        tested: the whole history of each ticker of the test, outcomes included.
        others: tickers that are not tested.
        stop_from: first session on which fits stop or calibrate.
        test_from: first session of the test.
        origins: sessions, common to all tickers.
    """

    tested: tuple[Past, ...]
    others: tuple[Past, ...]
    stop_from: np.datetime64
    test_from: np.datetime64
    origins: Sessions

    @property
    def known(self) -> Known:
        tested, others = (tuple(one.before(self.test_from) for one in group) for group in (self.tested, self.others))
        return Known(tested, others, self.stop_from)

    @property
    def questions(self) -> "Task":
        """The tested tickers up to the first origin alone: what a process needs to answer once."""
        first = self.origins[0]
        tested = (past.up_to(int(np.searchsorted(past.sessions, first))) for past in self.tested)
        return Task(tuple(tested), (), self.stop_from, self.test_from, self.origins[:1])

    def rows(self, past: Past) -> Rows:
        """The rows of the origins in a tested history."""
        return np.flatnonzero(np.isin(past.sessions, self.origins))

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[np.generic]] = {"origins": self.origins}
        for group, pasts in (("tested", self.tested), ("others", self.others)):
            for past in pasts:
                arrays[f"{group}/{past.ticker}/sessions"] = past.sessions
                arrays[f"{group}/{past.ticker}/bars"] = past.bars
        arrays["limits"] = np.array([self.stop_from, self.test_from])
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Task":
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        groups: dict[str, list[Past]] = {"tested": [], "others": []}
        for key in arrays:
            if key.endswith("/sessions"):
                group, ticker, _ = key.split("/")
                groups[group].append(Past(ticker, arrays[key], arrays[f"{group}/{ticker}/bars"]))
        stop_from, test_from = arrays["limits"]
        return cls(tuple(groups["tested"]), tuple(groups["others"]), stop_from, test_from, arrays["origins"])


def forecasts(method: Method, task: Task) -> Mapping[str, Values]:
    """The quantiles of every ticker from every origin, shape (n_origins, HORIZON, len(LEVELS)).

    All tickers of one origin are forecast together, from copies of their histories that end there.
    """
    found: dict[str, list[Values]] = {past.ticker: [] for past in task.tested}
    for origin in task.origins:
        pasts = [
            past.up_to(int(np.searchsorted(past.sessions, origin))) for past in task.tested if origin in past.sessions
        ]
        for past, quantiles in zip(pasts, method.forecast(pasts), strict=True):
            found[past.ticker].append(quantiles)
    return {ticker: np.array(rows) for ticker, rows in found.items()}
