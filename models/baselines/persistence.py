"""The no-change forecast."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.base import CLOSE, QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.baselines.closed_form import Parameters, fitted, read_parameters
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch


@dataclass(frozen=True)
class Persistence:
    """Every step equals the close at the origin, without spread."""

    horizon: int
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = 1

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        shape = (origins.size, self.horizon, len(self.levels))
        return QuantileForecast(np.array(self.levels), np.broadcast_to(bars[origins, CLOSE, None, None], shape))


def fit_persistence(_series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    return fitted(Parameters(horizon=settings.horizon))


def load_persistence(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Persistence:
    return Persistence(read_parameters(Parameters, files).horizon, tuple(quantile_levels))
