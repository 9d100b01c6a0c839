"""Windows and outcomes of many tickers, gathered by index from one array.

A universe has a million windows of 60 sessions: copied out they would take
gigabytes. Only the bars lie in memory once; a batch is cut from them when it is
due, and some of its windows forget what a caller may not know. The windows of a
few tickers that forget nothing are cut once: every epoch reads the same.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from models.base import CLOSE, IMPLIED_VOLATILITY, MARKET_OPEN, N_COLUMNS, N_INPUTS, Bars, with_columns
from models.lstm.network import inputs
from models.trading import is_untraded, with_ranges
from models.windows import future_closes, target_stop

CUT_ONCE = 20_000  # windows at most: 60 MB


class ReturnBatch(NamedTuple):
    """Network inputs and targets: cumulative log returns (batch, horizon), NaN beyond the block."""

    regressors: Tensor
    sessions: Tensor
    actual: Tensor


class Hidden(NamedTuple):
    """Shares of the windows, drawn for every batch, in which something is unknown.

    Attributes:
        market: everything about the market.
        implied: its implied volatility, which most exchanges lack.
        ranges: open, high, low and volume.
    """

    market: float = 0.0
    implied: float = 0.0
    ranges: float = 0.0


class ReturnWindows(Dataset[ReturnBatch]):
    """The windows that end at the origins of each ticker's block, sessions without a trade left out.

    Args:
        blocks: bars (n_sessions, 5 or 10) and origins of each ticker; targets beyond a block are NaN.
        lookback: sessions per window.
        horizon: steps of the outcomes.
        hidden: what windows for training forget.
    """

    def __init__(
        self, blocks: Sequence[tuple[Bars, range]], lookback: int, horizon: int, hidden: Hidden | None = None
    ) -> None:
        self._lookback = lookback
        self._hidden = hidden
        self._cut: ReturnBatch | None = None
        bars, rows, actual = [], [], []
        n_before = 0
        for one, block in blocks:
            traded = np.flatnonzero(~is_untraded(one))
            origins = traded[(traded >= block.start) & (traded < block.stop)]
            places = np.searchsorted(traded, origins)  # row of each origin among the sessions that traded
            origins, places = origins[places >= lookback - 1], places[places >= lookback - 1]
            closes = future_closes(one, origins, horizon, target_stop(block))
            actual.append(np.log(closes / one[origins, CLOSE, None]).astype(np.float32))
            rows.append(places + n_before)
            bars.append(with_columns(one, N_INPUTS)[traded])
            n_before += len(traded)
        self._bars = np.concatenate(bars)
        self._rows: NDArray[np.intp] = np.concatenate(rows)
        self.actual = torch.from_numpy(np.concatenate(actual))
        forgets = hidden is not None and any(hidden)
        if not forgets and 0 < len(self) <= CUT_ONCE:
            self._cut = self.sample(len(self))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> ReturnBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int] | NDArray[np.intp]) -> ReturnBatch:
        """A batch at once: a Python loop over windows would take longer than the network."""
        chosen = np.asarray(indices, dtype=np.intp)
        if self._cut is not None:
            return ReturnBatch(*(column[torch.from_numpy(chosen)] for column in self._cut))
        windows = self._bars[self._rows[chosen, None] + np.arange(1 - self._lookback, 1)]  # (batch, lookback, 10)
        windows = with_ranges(windows)
        if self._hidden is not None:
            of_market, of_ranges, of_implied = torch.rand(3, len(chosen)).numpy()
            windows[of_market < self._hidden.market, :, MARKET_OPEN:] = np.nan
            windows[of_implied < self._hidden.implied, :, IMPLIED_VOLATILITY] = np.nan
            forgotten = [column for column in range(N_COLUMNS) if column != CLOSE]
            rows = np.flatnonzero(of_ranges < self._hidden.ranges)
            windows[rows[:, None], :, forgotten] = np.nan
        given = inputs(torch.from_numpy(windows))
        return ReturnBatch(given.regressors, given.sessions, self.actual[torch.from_numpy(chosen)])

    def batches(self, size: int = 2048) -> Iterator[ReturnBatch]:
        """All windows in order, a few at a time."""
        for first in range(0, len(self), size):
            yield self.__getitems__(np.arange(first, min(first + size, len(self))))

    def sample(self, count: int) -> ReturnBatch:
        """At most ``count`` windows, evenly spread over all."""
        chosen = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.intp))
        parts = [self.__getitems__(part) for part in np.array_split(chosen, -(-len(chosen) // 2048))]
        return ReturnBatch(*(torch.cat(column) for column in zip(*parts, strict=True)))
