"""A normal distribution; its variance is an exponentially weighted mean of squared returns.

Source: J.P. Morgan (1996), RiskMetrics technical document, 4th edition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from models.base import QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.baselines.closed_form import Parameters, fitted, price_forecast, read_parameters, recent_log_closes
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch

DECAY = 0.94  # RiskMetrics' for daily returns


@dataclass(frozen=True)
class Ewma:
    """Mean zero, variance h · Σ w_i r_i² at step h, with w_i proportional to DECAY ** age.

    The 100 returns of the window carry 99.8 % of the weight of an infinite past.
    """

    horizon: int
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = 101

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        squared = np.diff(recent_log_closes(bars, origins, self.lookback), axis=1) ** 2
        weights = DECAY ** np.arange(self.lookback - 1)[::-1]  # oldest first
        variance = (squared * weights).sum(axis=1) / weights.sum()  # (n_origins,)
        spread = np.sqrt(variance[:, None] * np.arange(1, self.horizon + 1))  # (n_origins, horizon)
        normal = np.array([NormalDist().inv_cdf(level) for level in self.levels])
        return price_forecast(bars, origins, spread[..., None] * normal, self.levels)


def fit_ewma(_series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    return fitted(Parameters(horizon=settings.horizon), decay=DECAY)


def load_ewma(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Ewma:
    return Ewma(read_parameters(Parameters, files).horizon, tuple(quantile_levels))
