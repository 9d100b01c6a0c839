"""Opponents that need no training; the first of them is always shown beside a forecast."""

from dataclasses import dataclass

import numpy as np

from models.base import CLOSE, QUANTILE_GRID, Bars, Origins, QuantileForecast


@dataclass(frozen=True)
class Persistence:
    """Tomorrow = today: every step equals the close at the origin, without spread."""

    horizon: int
    lookback: int = 1

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        """The close at the origin, at every step and level."""
        levels = np.array(QUANTILE_GRID)
        shape = (origins.size, self.horizon, levels.size)
        return QuantileForecast(levels, np.broadcast_to(bars[origins, CLOSE, None, None], shape))
