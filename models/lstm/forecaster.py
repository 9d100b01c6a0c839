"""Fit a ``ReturnLSTM`` to bars, and serialize it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.base import QUANTILE_GRID, Bars
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch
from models.lstm.lightning_module import LOSS_LEVELS, ReturnLSTMModule, fit_regression, mean_weights
from models.lstm.loop import LoopReport, run_loop
from models.lstm.network import Inputs, NetworkConfig, ReturnLSTM
from models.lstm.samples import Hidden, ReturnBatch, ReturnWindows
from models.lstm.serialization import from_bytes, to_fitted_model

SAMPLED = 100_000  # windows that the regression and the table of quantiles are fitted on


@dataclass(frozen=True)
class Recipe:
    """How the network is trained; requests do not change it.

    Attributes:
        learning_rate: of AdamW.
        core_share: of it for the regression.
        batch_size: windows per step.
        max_epochs, patience: bounds on those of the request.
        scheduled: whether the learning rate falls to zero over ``max_epochs``, of which the last is then kept.
        hidden_market, hidden_implied, hidden_ranges: shares of the windows in which they are unknown.
        weight_decay: of the LSTMs.
        step_decay: step h weighs h ** −step_decay in the loss: near steps matter most.
        min_gain: share of the loss that continuing from a model must save, for the new weights to replace its own.
        ridge: penalty on the squared coefficients of the volatility regression.
    """

    learning_rate: float = 3e-3
    core_share: float = 0.1
    batch_size: int = 64
    max_epochs: int = 1000
    patience: int = 1000
    scheduled: bool = False
    hidden_market: float = 0.0
    hidden_implied: float = 0.0
    hidden_ranges: float = 0.0
    weight_decay: float = 0.01
    step_decay: float = 0.5
    min_gain: float = 0.0
    ridge: float = 1e-3


ONE_TICKER = Recipe()
# a universal model must serve exchanges without an index or an implied volatility, and callers who send closes only
POOLED = Recipe(
    batch_size=512,
    max_epochs=2,
    patience=2,
    scheduled=True,
    hidden_market=1 / 3,
    hidden_implied=0.1,
    hidden_ranges=0.15,
)
CONTINUED = Recipe(learning_rate=3e-4, max_epochs=10, patience=4, min_gain=0.005)


def fit_return_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    """Train on the fit blocks, choosing the epochs by the early-stopping blocks; one ticker then once more on both.

    Args:
        series: bars with their blocks; several make one universal model.
        settings: lookback, horizon, the limits of the fit, and the weights to continue from.
        on_epoch: called after every validated epoch.
    """
    # LSTMs this small are slower with a second thread, and results would depend on the number of threads
    torch.set_num_threads(1)
    recipe = _recipe(series, settings)
    bounded = replace(
        settings,
        max_epochs=min(settings.max_epochs, recipe.max_epochs),
        patience=min(settings.patience, recipe.patience),
    )
    started = time.monotonic()
    fit = [(one.bars, one.fit) for one in series]
    stopping = ReturnWindows([(one.bars, one.early_stopping) for one in series], settings.lookback, settings.horizon)
    budget = settings.max_seconds if recipe.scheduled else settings.max_seconds / 2
    fits = 1 if recipe.scheduled else 2
    first = replace(
        bounded, max_seconds=budget, on_progress=lambda done: settings.on_progress(replace(done, fits=fits))
    )
    network, report = _train(fit, stopping, recipe, first, on_epoch)
    if not recipe.scheduled and report.stopped_by != "max_seconds" and report.best_epoch:
        # the newest sessions are the most informative: with the number of epochs chosen, train on them too
        whole = [(one.bars, range(one.fit.start, one.early_stopping.stop)) for one in series]
        left_s = settings.max_seconds - (time.monotonic() - started)
        again = replace(
            bounded,
            max_epochs=report.best_epoch,
            max_seconds=left_s,
            checkpoint=None,
            on_progress=lambda done: settings.on_progress(replace(done, fit=2, fits=2)),
        )
        refitted, refit_report = _train(whole, None, recipe, again, on_epoch)
        if refit_report.stopped_by != "max_seconds":
            network = refitted
    return to_fitted_model(network.eval(), asdict(recipe), report)


def _recipe(series: Sequence[FitBlocks], settings: FitSettings) -> Recipe:
    if settings.start is not None:
        return CONTINUED
    return ONE_TICKER if len(series) == 1 else POOLED


def _train(
    blocks: Sequence[tuple[Bars, range]],
    held_out: ReturnWindows | None,
    recipe: Recipe,
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> tuple[ReturnLSTM, LoopReport]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        hidden = Hidden(recipe.hidden_market, recipe.hidden_implied, recipe.hidden_ranges)
        windows = ReturnWindows(blocks, settings.lookback, settings.horizon, hidden)
        known = windows.sample(SAMPLED)
        module = module_of(windows, recipe, settings, known)
        network = module.network
        report = run_loop(
            module,
            windows,
            held_out,
            batch_size=recipe.batch_size,
            settings=settings,
            on_epoch=on_epoch,
            min_gain=recipe.min_gain,
            keep_last=recipe.scheduled,
        )
        if settings.start is None:
            network.table.copy_(_standardized_quantiles(network, known, QUANTILE_GRID).double())
    return network, report


def module_of(
    windows: ReturnWindows, recipe: Recipe, settings: FitSettings, known: ReturnBatch | None = None
) -> ReturnLSTMModule:
    """The network with its regression fitted, or that of ``settings.start``, ready for ``run_loop``.

    Args:
        windows: those to train on.
        recipe: how.
        settings: shape, epochs and the weights to continue from.
        known: a sample of the windows, where there is one already.
    """
    known = windows.sample(SAMPLED) if known is None else known
    step_weights = mean_weights(settings.horizon, recipe.step_decay)
    if settings.start is None:
        network = ReturnLSTM(NetworkConfig(settings.lookback, settings.horizon))
        fit_regression(network, known, step_weights, recipe.ridge)
    else:
        network = from_bytes(settings.start).train()
    steps_per_epoch = -(-len(windows) // recipe.batch_size)
    return ReturnLSTMModule(
        network,
        _standardized_quantiles(network, known, LOSS_LEVELS),
        torch.nanmean(known.actual.abs(), 0).nan_to_num(1.0).clamp(min=1e-6),
        step_weights,
        learning_rate=recipe.learning_rate,
        core_share=recipe.core_share,
        weight_decay=recipe.weight_decay,
        n_steps=settings.max_epochs * steps_per_epoch if recipe.scheduled else None,
    )


def _standardized_quantiles(network: ReturnLSTM, known: ReturnBatch, levels: Sequence[float]) -> Tensor:
    """Quantiles of the outcomes in units of the network's scale, (horizon, n_levels); zero where there is none."""
    with torch.no_grad():
        parts = zip(torch.split(known.regressors, 2048), torch.split(known.sessions, 2048), strict=True)
        scales = [network.log_scale(Inputs(*part)) for part in parts]
    standardized = (known.actual * torch.exp(-torch.cat(scales))).numpy()
    standardized[:, np.isnan(standardized).all(0)] = 0.0
    return torch.from_numpy(np.nanquantile(standardized, levels, axis=0).T).float()
