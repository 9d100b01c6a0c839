"""The distribution of the returns of the last year."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.base import QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.baselines.closed_form import Parameters, fitted, price_forecast, read_parameters, recent_log_closes
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch


@dataclass(frozen=True)
class RollingEmpirical:
    """Quantiles of the overlapping h-step log returns among the last 250 sessions.

    Step h uses 251 − h returns. CRPS skill is measured against this baseline.
    """

    horizon: int
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = 251

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        closes = recent_log_closes(bars, origins, self.lookback)
        log_returns = np.empty((origins.size, self.horizon, len(self.levels)))
        for step in range(1, self.horizon + 1):
            past = closes[:, step:] - closes[:, :-step]  # (n_origins, lookback - step)
            log_returns[:, step - 1] = _quantiles(past, self.levels)
        return price_forecast(bars, origins, log_returns, self.levels)


def fit_rolling_empirical(_series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    return fitted(Parameters(horizon=settings.horizon))


def load_rolling_empirical(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> RollingEmpirical:
    return RollingEmpirical(read_parameters(Parameters, files).horizon, tuple(quantile_levels))


def _quantiles(values: NDArray[np.float64], levels: Sequence[float]) -> NDArray[np.float64]:
    """``np.quantile`` of each row, fifty times faster for many levels; shape (n_rows, n_levels)."""
    ordered = np.sort(values, axis=1)
    position = np.array(levels) * (values.shape[1] - 1)
    lower = position.astype(np.intp)
    below, above = ordered[:, lower], ordered[:, lower + 1]
    between: NDArray[np.float64] = below + (position - lower) * (above - below)
    return np.minimum(between, above)  # rounding must not make levels cross
