"""Fit the point networks, with quantiles from their own errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.base import CLOSE, QUANTILE_GRID
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch
from models.lstm.loop import InMemory, LoopReport, run_loop
from models.lstm.point_module import CloseBatch, Loss, PointModule
from models.lstm.point_networks import PointConfig, PointNetwork, PriceLSTM, RatioLSTM, step_volatility
from models.lstm.serialization import from_bytes, to_fitted_model
from models.windows import future_closes, lookback_windows, target_stop

MEASURED_ORIGINS = 500  # of all series: calibration afterwards improves the spread more than further origins
WINDOWS_AT_ONCE = 256  # bounds memory while errors are measured


@dataclass(frozen=True)
class PointRecipe:
    """How a point network is trained; requests do not change it.

    Attributes:
        learning_rate: of Adam.
        decay: factor of the learning rate after every step.
        batch_size: windows per step.
        l2: penalty on the squared weights of ``network.shrunk``.
    """

    learning_rate: float = 1e-3
    decay: float = 1.0
    batch_size: int = 32
    l2: float = 0.0


PRICE_RECIPE = PointRecipe()
# dropout before batch norm makes the level swing between epochs: a fast decay lets it settle before patience ends
RATIO_RECIPE = PointRecipe(decay=0.992, l2=5e-4)


def fit_price_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    """The first original project's network, with squared errors, on the close right after each window."""
    return _fit(PriceLSTM, nn.functional.mse_loss, PRICE_RECIPE, series, settings, on_epoch)


def fit_ratio_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    """The second original project's network, with Huber's loss and L2, on the close right after each window."""
    return _fit(RatioLSTM, nn.functional.huber_loss, RATIO_RECIPE, series, settings, on_epoch)


def _fit(
    kind: type[PointNetwork],
    loss: Loss,
    recipe: PointRecipe,
    series: Sequence[FitBlocks],
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> FittedModel:
    # LSTMs this small are slower with a second thread, and results would depend on the number of threads
    torch.set_num_threads(1)
    shape = PointConfig(settings.lookback, settings.horizon)
    with torch.random.fork_rng(devices=[]), _denormals_as_zero():
        torch.manual_seed(settings.seed)
        network = kind(shape) if settings.start is None else from_bytes(settings.start, kind).train()
        report = _train(network, loss, recipe, series, settings, on_epoch)
    network.eval()
    network.table.copy_(_standardized_errors(network, series))
    return to_fitted_model(network, asdict(recipe), report)


def _train(
    network: PointNetwork,
    loss: Loss,
    recipe: PointRecipe,
    series: Sequence[FitBlocks],
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> LoopReport:
    known = samples(network, [(one, one.fit) for one in series])
    held_out = samples(network, [(one, one.early_stopping) for one in series])
    if len(known.target) % recipe.batch_size == 1:
        known = CloseBatch(known.windows[1:], known.target[1:])  # batch norm learns nothing from a batch of one
    module = PointModule(network, loss, learning_rate=recipe.learning_rate, decay=recipe.decay, l2=recipe.l2)
    return run_loop(
        module, InMemory(known), held_out, batch_size=recipe.batch_size, settings=settings, on_epoch=on_epoch
    )


def samples(network: PointNetwork, blocks: Sequence[tuple[FitBlocks, range]]) -> CloseBatch:
    """Scaled windows and the scaled close after each; origins whose next session did not trade are left out."""
    parts = []
    for one, block in blocks:
        target = torch.from_numpy(future_closes(one.bars, _rows(block), 1, target_stop(block)))  # (n, 1)
        known = ~torch.isnan(target[:, 0])
        closes, target = _close_windows(network, one, block)[known], target[known]
        scale = network.scale(closes)
        scaled = [((prices - scale.offset) / scale.unit).float() for prices in (closes, target)]
        parts.append(CloseBatch(scaled[0], scaled[1][:, 0]))
    return CloseBatch(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _standardized_errors(network: PointNetwork, series: Sequence[FitBlocks]) -> Tensor:
    """Quantiles of the log errors of the path, in units of the step's volatility, (horizon, n_levels), float64.

    From the newest origins of the fit, because the early-stopping block may be
    shorter than the horizon. In-sample errors are too small; calibration corrects
    that. Each step's median is subtracted, so that the median forecast is the
    network's own.
    """
    per_series = max(MEASURED_ORIGINS // len(series), 1)
    errors = np.concatenate([_errors(network, one, per_series) for one in series])  # (n, horizon)
    table = np.nanquantile(errors, QUANTILE_GRID, axis=0).T
    return torch.from_numpy(table - np.nanmedian(errors, axis=0)[:, None])


def _errors(network: PointNetwork, one: FitBlocks, n_origins: int) -> NDArray[np.float64]:
    """Of the newest origins with all their targets known, or of all where there are fewer, (n, horizon)."""
    horizon = network.config.horizon
    seen = range(one.fit.start, one.early_stopping.stop)
    measured = range(max(seen.start, seen.stop - horizon - n_origins), seen.stop)
    closes = _close_windows(network, one, measured)
    with torch.no_grad():
        path = torch.cat([network.path(windows) for windows in torch.split(closes, WINDOWS_AT_ONCE)]).numpy()
    actual = future_closes(one.bars, _rows(measured), horizon, target_stop(seen))
    errors: NDArray[np.float64] = np.log(actual / path) / step_volatility(closes, horizon).numpy()
    return errors


def _close_windows(network: PointNetwork, one: FitBlocks, block: range) -> Tensor:
    windows = lookback_windows(one.bars, _rows(block), network.config.lookback)
    return torch.from_numpy(np.ascontiguousarray(windows[:, :, CLOSE]))


def _rows(block: range) -> NDArray[np.intp]:
    return np.arange(block.start, block.stop, dtype=np.intp)


@contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """A nearly closed forget gate makes gradients denormal, which would take most of the time."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
