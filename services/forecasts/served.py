"""A forecast as it was served: what whoever watches over forecasts is handed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from schemas.card import ModelCard
from services.forecasts.inference import Inference, Origin


@dataclass(frozen=True, eq=False)
class Served:
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
        distribution = self.inference.forecast.distribution
        assert distribution is not None, "a served forecast has its distribution"  # noqa: S101 - our own mistake
        return distribution().at(levels)[self.row, : self.horizon]


OnServed = Callable[[Served], None]
"""Is told of each forecast that is served; must not block."""


def unwatched(_: Served) -> None:
    """Tell nobody."""
