"""Fit a ``ReturnLSTM`` on bars, and turn it into bytes to store and to serve."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from models.base import CLOSE, QUANTILE_GRID, Bars
from models.fitting import NETWORK, WEIGHTS, FitBlocks, FitSettings, FittedModel, OnEpoch
from models.lstm.lightning_module import Batch, ReturnLSTMModule, weighted_nll
from models.lstm.loop import LoopReport, run_loop
from models.lstm.network import NetworkConfig, ReturnLSTM, inputs
from models.lstm.serialization import from_bytes, to_bytes, to_onnx
from models.windows import future_closes, lookback_windows, target_stop


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
    # on LSTMs this small a second thread costs more than it brings, and results would depend on the number
    torch.set_num_threads(1)
    recipe, config = Recipe(), NetworkConfig(settings.lookback, settings.horizon)
    started = time.monotonic()
    fit = _samples([(one.bars, one.fit) for one in series], config)
    stopping = _samples([(one.bars, one.early_stopping) for one in series], config)
    first_half = replace(settings, max_seconds=settings.max_seconds / 2)
    network, report = _train(fit, stopping, config, recipe, first_half, on_epoch)
    if report.stopped_by != "max_seconds":
        # the newest sessions tell most about tomorrow: having chosen how long to train, train on them too
        whole = _samples([(one.bars, range(one.fit.start, one.early_stopping.stop)) for one in series], config)
        left_s = settings.max_seconds - (time.monotonic() - started)
        again = replace(settings, max_epochs=report.best_epoch, max_seconds=left_s)
        refitted, refit_report = _train(whole, None, config, recipe, again, on_epoch)
        if refit_report.stopped_by != "max_seconds":
            network = refitted
    network.table.copy_(_standardized_quantiles(network))
    network.eval()
    return FittedModel(
        files={WEIGHTS: to_bytes(network), NETWORK: to_onnx(network)},
        quantile_levels=QUANTILE_GRID,
        hyperparameters={**asdict(config), **asdict(recipe)},
        best_epoch=report.best_epoch,
        validation_losses=report.validation_losses,
        stopped_by=report.stopped_by,
    )


def _train(
    known: Batch,
    held_out: Batch | None,
    config: NetworkConfig,
    recipe: Recipe,
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> tuple[ReturnLSTM, LoopReport]:
    step_weights = torch.arange(1, config.horizon + 1, dtype=torch.float32) ** -recipe.step_decay
    step_weights /= step_weights.sum()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = ReturnLSTM(config) if settings.start is None else from_bytes(settings.start).train()
        if settings.start is None:
            _fit_regression(network, known, step_weights, recipe.ridge)
        module = ReturnLSTMModule(
            network, step_weights, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        report = run_loop(module, known, held_out, batch_size=recipe.batch_size, settings=settings, on_epoch=on_epoch)
    return network, report


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
