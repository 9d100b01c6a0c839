"""A forecast as it was served: what whoever watches over forecasts is handed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from models.base import QuantileForecast
from schemas.card import ModelCard
from services.forecasts.inference import Inference, Origin


@dataclass(frozen=True, eq=False)
class ServedForecast:
    """One ticker's forecast, with what it takes to score it later.

    Attributes:
        card: of the model.
        origin: what was known.
        inference: what the model made of it, in row ``row``.
        made_at: when.
    """

    card: ModelCard
    origin: Origin
    inference: Inference
    row: int
    made_at: datetime

    @property
    def ticker(self) -> str:
        """Whose price was forecast."""
        return self.origin.history.series.ticker

    @property
    def last_session(self) -> date:
        """The newest session known."""
        return self.origin.history.as_of

    @property
    def horizon(self) -> int:
        """Steps that were told."""
        return len(self.origin.sessions)

    def quantiles_at(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """The distribution at these levels, shape (horizon, n_levels)."""
        whole = self.inference.distribution
        own = QuantileForecast(whole.quantile_levels, whole.prices[self.row : self.row + 1, : self.horizon])
        quantiles: NDArray[np.float64] = own.at(levels)[0]
        return quantiles


ForecastObserver = Callable[[ServedForecast], None]
"""Is told of each forecast that is served; must not block."""


def unwatched(_: ServedForecast) -> None:
    """Tell nobody."""
