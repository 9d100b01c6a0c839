"""What is asked of a fit and what comes out of it, without a word of torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from models.base import Bars


@dataclass(frozen=True)
class FitSettings:
    """The knobs of a fit.

    Attributes:
        lookback: sessions per window.
        horizon: steps forecast at once.
        max_epochs: at most this many passes over the fit block.
        patience: epochs without improvement on the early-stopping block before stopping.
        max_seconds: wall-clock budget; the best weights so far are kept when it is spent.
        seed: same seed and data give the same weights.
    """

    lookback: int
    horizon: int
    max_epochs: int
    patience: int
    max_seconds: float
    seed: int


@dataclass(frozen=True, eq=False)
class FitBlocks:
    """A history and the origins a fit may use; what lies beyond them is not for it to see.

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
    """A trained network as bytes, and how the fit went.

    Attributes:
        weights: safetensors, to resume or fine-tune.
        network: ONNX from bars (batch, lookback, 5) to prices (batch, horizon,
            n_levels), to serve.
        quantile_levels: the levels of the network's last axis.
        hyperparameters: what rebuilds the network around the weights.
        best_epoch: 1-based; its weights are the ones kept.
        validation_losses: of every epoch run.
        stopped_by: why the fit ended.
    """

    weights: bytes
    network: bytes
    quantile_levels: tuple[float, ...]
    hyperparameters: Mapping[str, JsonValue]
    best_epoch: int
    validation_losses: tuple[float, ...]
    stopped_by: Literal["early_stopping", "max_epochs", "max_seconds"]
