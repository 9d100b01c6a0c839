"""Windows per second of three training loops.

Ours is Lightning's, see ``models/lstm/loop.py``. The bare loop does the same steps on the same batches in plain torch
and ends with the same weights; the two are compared in processor time, so that other processes do not count. The first
original project's loop trains its network as it did: as many threads as torch chooses, a ``TensorDataset`` whose items
are collated one by one, a logger, and a validation of every epoch, without its progress bar. Threads that wait use
processor time too, so ours is compared with it in elapsed time: leave the machine alone meanwhile.
"""

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from models.base import CLOSE, Bars
from models.fitting import FitBlocks, FitSettings
from models.lstm.forecaster import ONE_TICKER, module_of
from models.lstm.loop import InMemory, TimedModule, run_loop, shuffled
from models.lstm.point_forecaster import PRICE_RECIPE, samples
from models.lstm.point_module import CloseBatch, PointModule
from models.lstm.point_networks import PointConfig, PriceLSTM
from models.lstm.samples import ReturnWindows
from services.evaluation.splits import Split, split_train

LOOKBACK, HORIZON = 60, 30
SEED = 0
EPOCHS, REPEATS = 3, 3


@dataclass(frozen=True)
class LoopSpeeds:
    """Windows per second, the best of some repeats.

    Attributes:
        ours, bare: of return_lstm's network, through Lightning and in plain torch, in processor time.
        difference: largest difference of a weight after the two.
        ours_on_original, original: of the first original project's network, in our loop and in its own, elapsed.
    """

    ours: float
    bare: float
    difference: float
    ours_on_original: float
    original: float

    @property
    def lightning_share(self) -> float:
        """Of the time of our loop."""
        return 1 - self.ours / self.bare


def loop_speeds(bars: Bars, repeats: int = REPEATS) -> LoopSpeeds:
    """Measure the loops on the fit block of these bars."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as our fits do
    split = split_train("", len(bars), LOOKBACK)
    blocks = FitBlocks(bars, split.fit, split.early_stopping)
    windows = ReturnWindows([(bars, split.fit)], LOOKBACK, HORIZON)
    through_lightning, in_torch = _module(windows), _module(windows)
    size = ONE_TICKER.batch_size
    _lightning(through_lightning, windows, size)
    _bare(in_torch, windows, size)
    pairs = zip(through_lightning.parameters(), in_torch.parameters(), strict=True)
    difference = max(float((one - other).detach().abs().max()) for one, other in pairs)

    network = PriceLSTM(PointConfig(LOOKBACK, HORIZON))
    known, held_out = (samples(network, [(blocks, block)]) for block in (split.fit, split.early_stopping))
    best: dict[str, float] = {}
    for _ in range(repeats):  # in turn, so that a slower minute slows all of them
        for name, n_windows, clock, run in (
            ("ours", len(windows), time.process_time, lambda: _lightning(_module(windows), windows, size)),
            ("bare", len(windows), time.process_time, lambda: _bare(_module(windows), windows, size)),
            ("ours_on_original", len(known.target), time.perf_counter, lambda: _lightning_on_original(known, held_out)),
            ("original", len(known.target), time.perf_counter, lambda: _original(bars, split, n_threads)),
        ):
            best[name] = max(best.get(name, 0.0), EPOCHS * n_windows / _seconds(run, clock))
    return LoopSpeeds(difference=difference, **best)


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    run()
    return clock() - started


def _module(windows: ReturnWindows) -> TimedModule:
    torch.manual_seed(SEED)
    return module_of(windows, ONE_TICKER, _settings())


def _settings() -> FitSettings:
    return FitSettings(LOOKBACK, HORIZON, max_epochs=EPOCHS, patience=EPOCHS, max_seconds=1e6, seed=SEED)


def _lightning(module: TimedModule, windows: ReturnWindows, batch_size: int) -> None:
    run_loop(module, windows, None, batch_size=batch_size, settings=_settings(), on_epoch=lambda _: None)


def _bare(module: TimedModule, windows: ReturnWindows, batch_size: int) -> None:
    optimizer = module.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)  # noqa: S101 - ours is one
    for epoch in range(1, EPOCHS + 1):
        order = shuffled(len(windows), SEED, epoch)
        for first in range(0, len(order), batch_size):
            loss = module.training_step(windows.__getitems__(order[first : first + batch_size]), first)
            assert isinstance(loss, Tensor)  # noqa: S101 - ours is one
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            module.on_before_optimizer_step(optimizer)
            optimizer.step()


def _lightning_on_original(known: CloseBatch, held_out: CloseBatch) -> None:
    torch.manual_seed(SEED)
    network, recipe = PriceLSTM(PointConfig(LOOKBACK, HORIZON)), PRICE_RECIPE
    module = PointModule(
        network, nn.functional.mse_loss, learning_rate=recipe.learning_rate, decay=recipe.decay, l2=recipe.l2
    )
    run_loop(
        module,
        InMemory(known),
        held_out,
        batch_size=recipe.batch_size,
        settings=_settings(),
        on_epoch=lambda _: None,
    )


class _OriginalModule(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = PriceLSTM(PointConfig(LOOKBACK, HORIZON))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002 - Lightning's
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:  # noqa: ARG002 - Lightning's
        self.log("val_loss", self._loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=PRICE_RECIPE.learning_rate)

    def _loss(self, batch: list[Tensor]) -> Tensor:
        windows, target = batch
        return nn.functional.mse_loss(self.network.next_scaled(windows), target)


def _original(bars: Bars, split: Split, n_threads: int) -> None:
    """Windows sliced one by one from closes between 0 and 1, then Lightning with what it does by default."""
    torch.set_num_threads(n_threads)
    try:
        _train_as_original(bars, split)
    finally:
        torch.set_num_threads(1)


def _train_as_original(bars: Bars, split: Split) -> None:
    torch.manual_seed(SEED)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    known, held_out = (
        DataLoader(_original_windows(bars, block), PRICE_RECIPE.batch_size, shuffle=block is split.fit)
        for block in (split.fit, split.early_stopping)
    )
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            devices=1,
            callbacks=[pl.callbacks.EarlyStopping("val_loss", patience=EPOCHS)],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(_OriginalModule(), known, held_out)


def _original_windows(bars: Bars, block: range) -> TensorDataset:
    closes = bars[:, CLOSE]
    scaled = (closes - closes.min()) / (closes.max() - closes.min())
    windows = [scaled[origin - LOOKBACK + 1 : origin + 1] for origin in block]
    targets = [scaled[origin + 1] for origin in block]
    return TensorDataset(
        torch.tensor(np.array(windows), dtype=torch.float32), torch.tensor(np.array(targets), dtype=torch.float32)
    )
