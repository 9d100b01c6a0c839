"""The training loop of all networks: Lightning, bounded by epochs, patience and the clock."""

import copy
import logging
import math
import time
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from errors import ArtifactCorrupt, NotFittable
from models.fitting import Checkpoint, Epoch, FitProgress, FitSettings, OnEpoch
from models.lstm.checkpoint import FitState, LoopState, from_bytes, to_bytes
from schemas.train import StoppedBy

log = logging.getLogger(__name__)

SKIP_REST_OF_EPOCH = -1  # Lightning's convention for on_train_batch_start

Batch = Any
"""A named tuple of tensors, all with the same first axis."""


class TimedModule(pl.LightningModule):
    """A network in training that ends its epoch once the wall-clock budget is spent; trained in place.

    Attributes:
        n_steps_before: steps of the optimiser in an earlier process.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.deadline = math.inf
        self.n_steps_before = 0

    @property
    def n_steps_done(self) -> int:
        """Finished steps of the optimiser."""
        return self.n_steps_before + self.global_step

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
    keep_last: bool = False,
) -> LoopReport:
    """Train the module's network on ``known`` and leave it with its best weights.

    What an epoch draws at random, the order of the windows first, depends on the seed and the epoch alone. So a fit
    that continues from a checkpoint ends with the weights of one that was never interrupted.

    Args:
        module: loss and optimiser.
        known: windows for training, gathered a batch at a time by ``__getitems__``.
        held_out: windows for choosing the epoch; without them the last weights stay.
        batch_size: windows per step.
        settings: epochs, patience and seconds at most, the seed, and the checkpoint.
        on_epoch: called after every validated epoch, and for those of an earlier process.
        min_gain: share of the initial loss that an epoch must save for its weights to replace the initial ones.
        keep_last: keep the weights of the last epoch, not of the best: only then has a learning rate settled that falls
            over all of them.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it prints tips and adverts
    module.deadline = time.monotonic() + settings.max_seconds
    saved = None if settings.checkpoint is None else _saved(settings.checkpoint)
    keeper = _KeepBest(held_out, settings, on_epoch, min_gain, keep_last, saved)
    if saved is not None and keeper.is_over:
        module.load_state_dict(saved.module)
    else:
        n_before = 0 if saved is None else saved.loop.epoch
        order = _Shuffled(len(known), settings.seed, n_before)  # type: ignore[arg-type]  # every data set here has one
        loader = DataLoader(known, batch_size, sampler=order, collate_fn=lambda batch: batch)
        _fit(module, loader, keeper, settings.max_epochs - n_before)
    if keeper.best_weights is not None:
        module.network.load_state_dict(keeper.best_weights)
    return LoopReport(keeper.best_epoch, tuple(keeper.losses), keeper.stopped_by)


def _fit(module: TimedModule, loader: "DataLoader[Batch]", keeper: "_KeepBest", max_epochs: int) -> None:
    trainer = pl.Trainer(
        max_epochs=max_epochs,
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


def _saved(checkpoint: Checkpoint) -> FitState | None:
    data = checkpoint.load()
    if data is None:
        return None
    try:
        return from_bytes(data)
    except ArtifactCorrupt as error:
        log.warning("the fit starts again: %s", error.message)
        return None


class _Shuffled(Sampler[int]):
    """All windows in an order that the seed and the epoch decide; seeds torch's generator for the whole epoch.

    Args:
        count: number of windows.
        seed: of the fit.
        n_before: finished epochs.
    """

    def __init__(self, count: int, seed: int, n_before: int) -> None:
        self._count = count
        self._seed = seed
        self._epoch = n_before

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        self._epoch += 1
        yield from shuffled(self._count, self._seed, self._epoch)  # at the first batch, after Lightning's own draws


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """All windows in the order of an epoch; seeds torch's generator, which decides what they hide, and dropout."""
    torch.manual_seed((seed << 20) + epoch)
    order: list[int] = torch.randperm(count).tolist()
    return order


class _KeepBest(pl.Callback):
    """Validates after each epoch, keeps the best weights and the checkpoint, and ends the fit.

    Epoch 0 is the initial weights, which stay where no epoch is better.
    """

    def __init__(
        self,
        held_out: Batch | None,
        settings: FitSettings,
        on_epoch: OnEpoch,
        min_gain: float,
        keep_last: bool,
        saved: FitState | None,
    ) -> None:
        self._held_out = held_out
        self._min_gain = min_gain
        self._keep_last = keep_last
        self._settings = settings
        self._on_epoch = on_epoch
        self._saved = saved
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best_loss = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.stopped_by: StoppedBy = "max_epochs"
        if saved is not None:
            self._take_up(saved)

    @property
    def is_over(self) -> bool:
        """Whether an earlier process has finished the last epoch."""
        return self._saved is not None and (
            self._saved.loop.epoch >= self._settings.max_epochs or self.stopped_by == "early_stopping"
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._saved is not None:
            self._saved.restore(pl_module, trainer.optimizers[0])
            _timed(pl_module).n_steps_before = self._saved.loop.n_steps
        elif self._held_out is not None:
            self.best_weights = _weights(pl_module)
            loss = self._validate(pl_module, epoch=0)
            if not math.isfinite(loss):
                raise NotFittable("the early-stopping block has no known outcome")
            self.best_loss -= self._min_gain * abs(loss)
        self._report(pl_module, self._n_before)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        n_batches = int(trainer.num_training_batches)
        self._report(pl_module, self._n_before + trainer.current_epoch + (batch_idx + 1) / n_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = self._n_before + trainer.current_epoch + 1
        if time.monotonic() > _timed(pl_module).deadline:
            self.stopped_by, trainer.should_stop = "max_seconds", True
        if self._held_out is not None:
            loss = self._validate(pl_module, epoch)
            self.losses.append(loss)
        if not trainer.should_stop:  # else the epoch may be cut short, and another process would do the whole of it
            self._save(epoch, trainer, pl_module)
        if self._held_out is None:
            return
        self._on_epoch(Epoch(epoch, loss))
        if not trainer.should_stop and self._is_out_of_patience(epoch):
            self.stopped_by, trainer.should_stop = "early_stopping", True

    @property
    def _n_before(self) -> int:
        return 0 if self._saved is None else self._saved.loop.epoch

    def _report(self, module: pl.LightningModule, passes: float) -> None:
        seconds_left = max(0.0, _timed(module).deadline - time.monotonic())
        self._settings.on_progress(FitProgress(passes, self._settings.max_epochs, seconds_left))

    def _is_out_of_patience(self, epoch: int) -> bool:
        return epoch - self.best_epoch >= self._settings.patience

    def _take_up(self, saved: FitState) -> None:
        log.info("the fit continues after epoch %d", saved.loop.epoch)
        self.losses = [*saved.loop.losses]
        self.best_epoch, self.best_loss = saved.loop.best_epoch, saved.loop.best_loss
        self.best_weights = saved.best or None
        for number, loss in enumerate(self.losses, 1):
            self._on_epoch(Epoch(number, loss))
        if self._held_out is not None and self._is_out_of_patience(saved.loop.epoch):
            self.stopped_by = "early_stopping"

    def _save(self, epoch: int, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self._settings.checkpoint is None:
            return
        loop = LoopState(
            epoch=epoch,
            n_steps=_timed(module).n_steps_done,
            losses=tuple(self.losses),
            best_epoch=self.best_epoch,
            best_loss=self.best_loss if self.losses else 0.0,
        )
        state = FitState.of(loop, module, trainer.optimizers[0], self.best_weights)
        self._settings.checkpoint.save(to_bytes(state))

    def _validate(self, module: pl.LightningModule, epoch: int) -> float:
        module.eval()
        with torch.no_grad():
            loss = _timed(module).validation_loss(self._held_out)
        module.train()
        if loss < self.best_loss or self._keep_last:
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
