"""Fit a ``ReturnLSTM`` on bars, and turn it into bytes to store and to serve."""

import copy
import dataclasses
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from scipy import stats
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from models.base import CLOSE, QUANTILE_GRID, Bars
from models.fitting import Epoch, FitBlocks, FitSettings, FittedModel, OnEpoch
from models.lstm.lightning_module import Batch, ReturnLSTMModule, weighted_nll
from models.lstm.network import NetworkConfig, ReturnLSTM, inputs
from models.lstm.serialization import to_bytes, to_onnx
from models.windows import future_closes, lookback_windows, target_stop

StoppedBy = Literal["early_stopping", "max_epochs", "max_seconds"]


@dataclass(frozen=True)
class Recipe:
    """How the network is trained, whatever the request.

    Attributes:
        learning_rate: of AdamW.
        weight_decay: of the LSTMs.
        batch_size: windows per step.
        step_decay: step h weighs h ** −step_decay in the loss: near steps matter most.
        ridge: penalty on the squared coefficients of the volatility regression.
    """

    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    batch_size: int = 64
    step_decay: float = 1.0
    ridge: float = 1e-3


def fit_return_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    """Train on the fit blocks, choosing the epochs on the early-stopping blocks, then once more on both.

    Args:
        series: bars with their blocks; several make one pooled model.
        settings: lookback, horizon and the bounds of the fit.
        on_epoch: told of every epoch that is validated.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # it greets, and advertises
    # on LSTMs this small a second thread costs more than it brings, and results would depend on the number
    torch.set_num_threads(1)
    recipe, config = Recipe(), NetworkConfig(settings.lookback, settings.horizon)
    started = time.monotonic()
    stopping = _samples([(one.bars, one.early_stopping) for one in series], config)
    chosen = _train(
        _samples([(one.bars, one.fit) for one in series], config),
        stopping,
        config,
        recipe,
        dataclasses.replace(settings, max_seconds=settings.max_seconds / 2),
        on_epoch,
    )
    network = chosen.network
    # the newest sessions tell most about tomorrow: having chosen how long to train, train on them too
    if chosen.best_epoch and chosen.stopped_by != "max_seconds":
        left_s = settings.max_seconds - (time.monotonic() - started)
        whole = [(one.bars, range(one.fit.start, one.early_stopping.stop)) for one in series]
        again = dataclasses.replace(settings, max_epochs=chosen.best_epoch, max_seconds=left_s)
        refit = _train(_samples(whole, config), None, config, recipe, again, on_epoch=lambda _: None)
        network = network if refit.stopped_by == "max_seconds" else refit.network
    network.table.copy_(_standardized_quantiles(network))
    network.eval()
    return FittedModel(
        weights=to_bytes(network),
        network=to_onnx(network),
        quantile_levels=QUANTILE_GRID,
        hyperparameters={**dataclasses.asdict(config), **dataclasses.asdict(recipe)},
        best_epoch=chosen.best_epoch,
        validation_losses=chosen.validation_losses,
        stopped_by=chosen.stopped_by,
    )


@dataclass(frozen=True)
class _Trained:
    network: ReturnLSTM
    best_epoch: int
    validation_losses: tuple[float, ...]
    stopped_by: StoppedBy


class _KeepBest(pl.Callback):
    """Validates after each epoch, keeps the best weights, and ends the fit.

    Epoch 0 is the volatility regression alone: a fit that is cut short, or that
    learns nothing, leaves that.
    """

    def __init__(self, held_out: Batch | None, settings: FitSettings, on_epoch: OnEpoch) -> None:
        self._held_out = held_out
        self._settings = settings
        self._on_epoch = on_epoch
        self.losses: list[float] = []
        self.best_epoch = 0
        self.best_loss = float("inf")
        self.best_weights: dict[str, Tensor] = {}
        self.stopped_by: StoppedBy = "max_epochs"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate what the fit starts from, and keep it until something is better."""
        assert isinstance(pl_module, ReturnLSTMModule)  # noqa: S101 - ours
        self.best_weights = copy.deepcopy(pl_module.network.state_dict())
        self._validate(pl_module, epoch=0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate, and stop on impatience or when the budget is spent."""
        assert isinstance(pl_module, ReturnLSTMModule)  # noqa: S101 - ours
        epoch = trainer.current_epoch + 1
        if time.monotonic() > pl_module.deadline:
            self.stopped_by, trainer.should_stop = "max_seconds", True
        loss = self._validate(pl_module, epoch)
        if loss is None:
            return
        self.losses.append(loss)
        self._on_epoch(Epoch(epoch, loss))
        if not trainer.should_stop and epoch - self.best_epoch >= self._settings.patience:
            self.stopped_by, trainer.should_stop = "early_stopping", True

    def _validate(self, module: pl.LightningModule, epoch: int) -> float | None:
        assert isinstance(module, ReturnLSTMModule)  # noqa: S101 - ours
        if self._held_out is None:
            return None
        loss = module.validation_loss(self._held_out)
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best_weights = copy.deepcopy(module.network.state_dict())
        return loss


def _train(
    known: Batch,
    held_out: Batch | None,
    config: NetworkConfig,
    recipe: Recipe,
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> _Trained:
    deadline = time.monotonic() + settings.max_seconds
    step_weights = torch.arange(1, config.horizon + 1, dtype=torch.float32) ** -recipe.step_decay
    step_weights /= step_weights.sum()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = ReturnLSTM(config)
        _fit_regression(network, known, step_weights, recipe.ridge)
        module = ReturnLSTMModule(
            network,
            step_weights,
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            deadline=deadline,
        )
        keeper = _KeepBest(held_out, settings, on_epoch)
        _run(module, known, recipe.batch_size, settings, keeper)
    if held_out is not None:
        network.load_state_dict(keeper.best_weights)
    return _Trained(network, keeper.best_epoch, tuple(keeper.losses), keeper.stopped_by)


def _run(module: ReturnLSTMModule, known: Batch, batch_size: int, settings: FitSettings, keeper: _KeepBest) -> None:
    loader = DataLoader(_Windows(known), batch_size=batch_size, shuffle=True, collate_fn=lambda batch: batch)
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


def _samples(blocks: Sequence[tuple[Bars, range]], config: NetworkConfig) -> Batch:
    """Inputs and targets of every origin; a target beyond its block is NaN."""
    parts = []
    for bars, block in blocks:
        origins = np.array(block)
        given = inputs(torch.from_numpy(np.ascontiguousarray(lookback_windows(bars, origins, config.lookback))))
        closes = future_closes(bars, origins, config.horizon, target_stop(block))
        actual = np.log(closes / bars[origins, CLOSE, None]).astype(np.float32)
        parts.append(Batch(given.regressors, given.sessions, torch.from_numpy(actual)))
    return Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))


class _Windows(Dataset[Batch]):
    """All windows in memory, handed out a batch at a time: a loop over them would take longer than the network."""

    def __init__(self, windows: Batch) -> None:
        self._windows = windows

    def __len__(self) -> int:
        return len(self._windows.actual)

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])

    def __getitems__(self, rows: list[int]) -> Batch:
        return Batch(*(column[rows] for column in self._windows))


def _fit_regression(network: ReturnLSTM, known: Batch, step_weights: Tensor, ridge: float) -> None:
    """The volatility regression alone, by maximum likelihood on the full batch (L-BFGS)."""
    spread = known.regressors.std(0)
    network.centre.copy_(known.regressors.mean(0))
    network.spread.copy_(torch.where(spread > 1e-4, spread, torch.ones_like(spread)))
    n_known = (~torch.isnan(known.actual)).sum(0).clamp(min=1)
    variance = torch.nan_to_num(known.actual).square().sum(0) / n_known
    with torch.no_grad():
        network.regression.bias.copy_(0.5 * torch.log(variance + 1e-8) - 0.3)
    core = [*network.regression.parameters(), network.location, network.log_dof]
    optimiser = torch.optim.LBFGS(core, max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = weighted_nll(network, network.regressed_log_scale(known.regressors), known.actual, step_weights)
        penalised: Tensor = loss + ridge * network.regression.weight.square().mean(1).sum()
        penalised.backward()  # type: ignore[no-untyped-call]
        return penalised

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def _standardized_quantiles(network: ReturnLSTM) -> Tensor:
    """Student-t quantiles of every step in units of scale, (horizon, n_levels), float64."""
    dof = network.degrees_of_freedom().detach().double().numpy()
    location = network.location.detach().double().numpy()
    return torch.from_numpy(location[:, None] + stats.t.ppf(np.array(QUANTILE_GRID), dof[:, None]))
