"""The close at the origin, grown at the mean rate of the fit block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.base import CLOSE, QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.baselines.closed_form import Parameters, fitted, price_forecast, read_parameters, sessions_to_fit
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch


class DriftParameters(Parameters):
    """``mean_log_return`` is per session."""

    mean_log_return: float


@dataclass(frozen=True)
class Drift:
    """Step h is close · exp(h · mean log return), without spread."""

    parameters: DriftParameters
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = 1

    @property
    def horizon(self) -> int:
        return self.parameters.horizon

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        steps = np.arange(1, self.horizon + 1)
        log_returns = np.empty((self.horizon, len(self.levels)))
        log_returns[:] = self.parameters.mean_log_return * steps[:, None]
        return price_forecast(bars, origins, log_returns, self.levels)


def fit_drift(series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    """The mean log return before the calibration block; every session of every series has the same weight."""
    returns = [np.diff(np.log(sessions_to_fit(one)[:, CLOSE])) for one in series]
    mean = float(np.concatenate(returns).mean())
    return fitted(DriftParameters(horizon=settings.horizon, mean_log_return=mean))


def load_drift(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Drift:
    return Drift(read_parameters(DriftParameters, files), tuple(quantile_levels))
