"""The training loop of all networks: Lightning, bounded by epochs, patience and the clock."""

import copy
import logging
import math
import time
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from errors import NotFittable
from models.fitting import Epoch, FitSettings, OnEpoch
from schemas.train import StoppedBy

SKIP_REST_OF_EPOCH = -1  # Lightning's convention for on_train_batch_start

Batch = Any
"""A named tuple of tensors, all with the same first axis."""


class TimedModule(pl.LightningModule):
    """A network in training that ends its epoch once the wall-clock budget is spent; trained in place."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.deadline = math.inf

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
        return SKIP_REST_OF_EPOCH if time.monotonic() > self.deadline else None

    @abstractmethod
    def validation_loss(self, batch: Batch) -> float:
        """Loss on windows that are not for training."""


@dataclass(frozen=True)
class LoopReport:
    """``best_epoch`` is 1-based, 0 where no epoch was better than the initial weights."""

    best_epoch: int
    validation_losses: tuple[float, ...]
    stopped_by: StoppedBy


def run_loop(
    module: TimedModule,
    known: Dataset[Batch],
    held_out: Batch | None,
    *,
    batch_size: int,
    settings: FitSettings,
    on_epoch: OnEpoch,
    min_gain: float = 0.0,
) -> LoopReport:
    """Train the module's network on ``known`` and leave it with its best weights.

    Args:
        module: loss and optimiser.
        known: windows for training, gathered a batch at a time by ``__getitems__``.
        held_out: windows for choosing the epoch; without them the last weights stay.
        batch_size: windows per step.
        settings: epochs, patience and seconds at most; shuffling follows torch's generator.
        on_epoch: called after every validated epoch.
        min_gain: share of the initial loss that an epoch must save for its weights to replace the initial ones.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it prints tips and adverts
    module.deadline = time.monotonic() + settings.max_seconds
    keeper = _KeepBest(held_out, settings, on_epoch, min_gain)
    loader = DataLoader(known, batch_size=batch_size, shuffle=True, collate_fn=lambda batch: batch)
    trainer = pl.Trainer(
        max_epochs=settings.max_epochs,
        accelerator="cpu",
        devices=1,
        gradient_clip_val=1.0,
        callbacks=[keeper],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # the windows are in memory already: workers would only copy them
        warnings.filterwarnings("ignore", message=".*does not have many workers")
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)  # Lightning's own
        trainer.fit(module, loader)
    if keeper.best_weights is not None:
        module.network.load_state_dict(keeper.best_weights)
    return LoopReport(keeper.best_epoch, tuple(keeper.losses), keeper.stopped_by)


class _KeepBest(pl.Callback):
    """Validates after each epoch, keeps the best weights, and ends the fit.

    Epoch 0 is the initial weights, which stay where no epoch is better.
    """

    def __init__(self, held_out: Batch | None, settings: FitSettings, on_epoch: OnEpoch, min_gain: float) -> None:
        self._held_out = held_out
        self._min_gain = min_gain
        self._patience = settings.patience
        self._on_epoch = on_epoch
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.stopped_by: StoppedBy = "max_epochs"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._held_out is not None:
            self.best_weights = _weights(pl_module)
            loss = self._validate(pl_module, epoch=0)
            if not math.isfinite(loss):
                raise NotFittable("the early-stopping block has no known outcome")
            self.best_loss -= self._min_gain * abs(loss)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if time.monotonic() > _timed(pl_module).deadline:
            self.stopped_by, trainer.should_stop = "max_seconds", True
        if self._held_out is None:
            return
        loss = self._validate(pl_module, epoch)
        self.losses.append(loss)
        self._on_epoch(Epoch(epoch, loss))
        if not trainer.should_stop and epoch - self.best_epoch >= self._patience:
            self.stopped_by, trainer.should_stop = "early_stopping", True

    def _validate(self, module: pl.LightningModule, epoch: int) -> float:
        module.eval()
        with torch.no_grad():
            loss = _timed(module).validation_loss(self._held_out)
        module.train()
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_weights = _weights(module)
        return loss


class InMemory(Dataset[Batch]):
    """Windows in memory, indexed a batch at a time: a Python loop over them would take longer than the network."""

    def __init__(self, windows: Batch) -> None:
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows[0])

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Batch:
        return type(self._windows)(*(column[rows] for column in self._windows))


def _timed(module: pl.LightningModule) -> TimedModule:
    assert isinstance(module, TimedModule), "run_loop trains timed modules only"  # noqa: S101 - never input
    return module


def _weights(module: pl.LightningModule) -> dict[str, Tensor]:
    return copy.deepcopy(_timed(module).network.state_dict())
