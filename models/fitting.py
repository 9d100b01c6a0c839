"""The input and the result of a fit, without torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from models.base import Bars
from schemas.train import StoppedBy

WEIGHTS = "weights.safetensors"  # to resume
NETWORK = "model.onnx"  # to serve
PARAMETERS = "parameters.json"  # of a model that has no network


class Checkpoint(Protocol):
    """Where a fit keeps its state, so that another process can continue it."""

    def load(self) -> bytes | None:
        """The state saved last; None where there is none."""

    def save(self, state: bytes) -> None:
        """Replace the state; a failure to store it does not end the fit."""


@dataclass(frozen=True)
class FitProgress:
    """How far a fit is.

    Attributes:
        passes: finished passes over the fit block, with the share of the current one.
        max_epochs: most passes.
        seconds_left: of the wall-clock budget.
        fit: 1, or 2 where the network is fitted once more on more sessions.
        fits: how many there are at most.
    """

    passes: float
    max_epochs: int
    seconds_left: float = math.inf
    fit: int = 1
    fits: int = 1


OnProgress = Callable[[FitProgress], None]


@dataclass(frozen=True)
class FitSettings:
    """The limits of a fit.

    Attributes:
        lookback: sessions per window.
        horizon: steps forecast at once.
        max_epochs: at most this many passes over the fit block.
        patience: epochs without improvement on the early-stopping block before stopping.
        max_seconds: wall-clock budget; the best weights so far are kept when it is spent.
        seed: same seed and data give the same weights.
        start: WEIGHTS of a model of the same shape to continue from; None for random weights.
        checkpoint: keeps the state after every epoch, and has that of an earlier process with the same settings and
            data, which the fit continues to the same weights; None to keep nothing.
        on_progress: called often during a network's fit; what it raises ends the fit.
    """

    lookback: int
    horizon: int
    max_epochs: int
    patience: int
    max_seconds: float
    seed: int
    start: bytes | None = None
    checkpoint: Checkpoint | None = None
    on_progress: OnProgress = lambda _: None


@dataclass(frozen=True, eq=False)
class FitBlocks:
    """A history and the origins that a fit may use; it must not read beyond them.

    Attributes:
        bars: shape (n_sessions, 5).
        fit: origins to learn from.
        early_stopping: the origins right after them, to choose the epochs on.
    """

    bars: Bars
    fit: range
    early_stopping: range


@dataclass(frozen=True)
class Epoch:
    """One finished pass over the fit block, with the loss on the early-stopping block."""

    number: int
    validation_loss: float


OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class FittedModel:
    """A fitted model as files, and how the fit went.

    Attributes:
        files: WEIGHTS and NETWORK of an LSTM, PARAMETERS of a model without one.
        quantile_levels: the levels at which it states its distribution.
        hyperparameters: what rebuilds it around its weights.
        best_epoch: 1-based; 0 where no epoch was better than the initial weights.
        validation_losses: of every epoch run.
        stopped_by: why the fit ended.
    """

    files: Mapping[str, bytes]
    quantile_levels: tuple[float, ...]
    hyperparameters: Mapping[str, JsonValue]
    best_epoch: int
    validation_losses: tuple[float, ...]
    stopped_by: StoppedBy


Fit = Callable[[Sequence[FitBlocks], FitSettings, OnEpoch], FittedModel]
