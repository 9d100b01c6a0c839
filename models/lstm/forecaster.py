"""Fit a ``ReturnLSTM`` to bars, and serialize it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from models.base import CLOSE, QUANTILE_GRID, Bars, closes_only
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch
from models.lstm.lightning_module import ReturnBatch, ReturnLSTMModule, weighted_nll
from models.lstm.loop import LoopReport, run_loop
from models.lstm.network import MEAN_WIDTHS, NetworkConfig, ReturnLSTM, inputs
from models.lstm.serialization import from_bytes, to_fitted_model
from models.windows import future_closes, lookback_windows, target_stop


@dataclass(frozen=True)
class Recipe:
    """How the network is trained; requests do not change it.

    Attributes:
        learning_rate: of AdamW.
        batch_size: windows per step.
        max_epochs, patience: bounds on those of the request.
        closes_only_every: every n-th window is repeated with only its closes known; 0 for none.
        jitter: half-width of a random change of the log volatility of a window and its outcome.
        weight_decay: of the LSTMs.
        step_decay: step h weighs h ** −step_decay in the loss: near steps matter most.
        ridge: penalty on the squared coefficients of the volatility regression.
    """

    learning_rate: float = 3e-3
    batch_size: int = 64
    max_epochs: int = 1000
    patience: int = 1000
    closes_only_every: int = 0
    jitter: float = 0.0
    weight_decay: float = 0.01
    step_decay: float = 1.0
    ridge: float = 1e-3


ONE_TICKER = Recipe()
# a pooled model must serve tickers of any volatility, and callers who send closes only
POOLED = Recipe(batch_size=128, max_epochs=6, patience=3, closes_only_every=2, jitter=0.7)
CONTINUED = Recipe(learning_rate=1e-3, max_epochs=10, patience=3)


def fit_return_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    """Train on the fit blocks, choosing the epochs by the early-stopping blocks, then once more on both.

    Args:
        series: bars with their blocks; several make one pooled model.
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
    stopping = _windows([(one.bars, one.early_stopping) for one in series], settings)
    network, report = _train(fit, stopping, recipe, replace(bounded, max_seconds=settings.max_seconds / 2), on_epoch)
    if report.stopped_by != "max_seconds":
        # the newest sessions are the most informative: with the number of epochs chosen, train on them too
        whole = [(one.bars, range(one.fit.start, one.early_stopping.stop)) for one in series]
        left_s = settings.max_seconds - (time.monotonic() - started)
        again = replace(bounded, max_epochs=report.best_epoch, max_seconds=left_s)
        refitted, refit_report = _train(whole, None, recipe, again, on_epoch)
        if refit_report.stopped_by != "max_seconds":
            network = refitted
    network.table.copy_(_standardized_quantiles(network))
    network.eval()
    return to_fitted_model(network, asdict(recipe), report)


def _recipe(series: Sequence[FitBlocks], settings: FitSettings) -> Recipe:
    if settings.start is not None:
        return CONTINUED
    return ONE_TICKER if len(series) == 1 else POOLED


def _train(
    blocks: Sequence[tuple[Bars, range]],
    held_out: ReturnBatch | None,
    recipe: Recipe,
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> tuple[ReturnLSTM, LoopReport]:
    step_weights = torch.arange(1, settings.horizon + 1, dtype=torch.float32) ** -recipe.step_decay
    step_weights /= step_weights.sum()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        known = _augmented(blocks, settings, recipe)
        if settings.start is None:
            network = ReturnLSTM(NetworkConfig(settings.lookback, settings.horizon))
            _fit_regression(network, known, step_weights, recipe.ridge)
        else:
            network = from_bytes(settings.start).train()
        module = ReturnLSTMModule(
            network, step_weights, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        report = run_loop(module, known, held_out, batch_size=recipe.batch_size, settings=settings, on_epoch=on_epoch)
    return network, report


def _windows(blocks: Sequence[tuple[Bars, range]], settings: FitSettings, every: int = 1) -> ReturnBatch:
    """Inputs and targets of every ``every``-th origin; targets beyond the block are NaN."""
    parts = []
    for bars, block in blocks:
        origins = np.array(block[::every], dtype=np.intp)
        windows = np.ascontiguousarray(lookback_windows(bars, origins, settings.lookback))
        given = inputs(torch.from_numpy(windows))
        closes = future_closes(bars, origins, settings.horizon, target_stop(block))
        actual = np.log(closes / bars[origins, CLOSE, None]).astype(np.float32)
        parts.append(ReturnBatch(given.regressors, given.sessions, torch.from_numpy(actual)))
    return _joined(parts)


def _augmented(blocks: Sequence[tuple[Bars, range]], settings: FitSettings, recipe: Recipe) -> ReturnBatch:
    """The windows for training, with the recipe's augmentations."""
    windows = _windows(blocks, settings)
    if recipe.closes_only_every:
        hidden = [(closes_only(bars[:, CLOSE]), block) for bars, block in blocks]
        windows = _joined([windows, _windows(hidden, settings, recipe.closes_only_every)])
    return _jittered(windows, recipe.jitter) if recipe.jitter else windows


def _jittered(windows: ReturnBatch, width: float) -> ReturnBatch:
    """Windows of a calmer or a wilder market: volatility and outcome are scaled by the same factor."""
    change = width * (2 * torch.rand(len(windows.actual), 1) - 1)  # (batch, 1), in log volatility
    n_means, share = len(MEAN_WIDTHS), windows.regressors[:, -1:]
    shift = torch.cat([(change * share).expand(-1, n_means), (change * (1 - share)).expand(-1, n_means)], dim=1)
    regressors = windows.regressors.clone()
    regressors[:, : 2 * n_means] += shift
    return ReturnBatch(regressors, windows.sessions, windows.actual * torch.exp(change))


def _joined(parts: Sequence[ReturnBatch]) -> ReturnBatch:
    return ReturnBatch(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _fit_regression(network: ReturnLSTM, known: ReturnBatch, step_weights: Tensor, ridge: float) -> None:
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
