"""What the baselines share: stored parameters, the sessions to fit, and the way from log returns to prices."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from errors import ArtifactCorrupt
from models.base import CLOSE, QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.fitting import PARAMETERS, FitBlocks, FittedModel
from models.windows import lookback_windows, target_stop

MAX_LOG_RETURN = 50.0  # a factor of 5e21: keeps prices finite and positive for any window


class Parameters(BaseModel):
    """The stored result of a fit; for some baselines the horizon is all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    horizon: int = Field(ge=1, le=250)  # the longest window of a baseline has 251 sessions


P = TypeVar("P", bound=Parameters)


def fitted(parameters: Parameters, **hyperparameters: JsonValue) -> FittedModel:
    return FittedModel(
        files={PARAMETERS: parameters.model_dump_json().encode()},
        quantile_levels=QUANTILE_GRID,
        hyperparameters={"horizon": parameters.horizon, **hyperparameters},
        best_epoch=0,
        validation_losses=(),
        stopped_by="closed_form",
    )


def read_parameters(kind: type[P], files: Mapping[str, bytes]) -> P:
    """The inverse of ``fitted``.

    Raises:
        ArtifactCorrupt: the file does not contain these parameters.
    """
    try:
        return kind.model_validate_json(files[PARAMETERS])
    except ValidationError as error:
        raise ArtifactCorrupt(f"{PARAMETERS} does not contain {kind.__name__}") from error


def sessions_to_fit(one: FitBlocks) -> Bars:
    """Every session before the calibration block: without epochs, the early-stopping block is for the fit too."""
    return one.bars[: target_stop(one.early_stopping)]


def recent_log_closes(bars: Bars, origins: Origins, lookback: int) -> NDArray[np.float64]:
    """Log closes of the ``lookback`` sessions ending at each origin, shape (n_origins, lookback)."""
    return np.log(np.ascontiguousarray(lookback_windows(bars, origins, lookback)[..., CLOSE]))


def price_forecast(
    bars: Bars, origins: Origins, log_returns: NDArray[np.float64], levels: Sequence[float]
) -> QuantileForecast:
    """Quantiles of the close from those of the cumulative log return.

    Args:
        bars: shape (n_sessions, 5).
        origins: shape (n_origins,).
        log_returns: ln(close at origin + h / close at origin), broadcastable to (n_origins, horizon, n_levels).
        levels: ascending, shape (n_levels,).
    """
    growth = np.exp(np.clip(log_returns, -MAX_LOG_RETURN, MAX_LOG_RETURN))
    return QuantileForecast(np.array(levels), bars[origins, CLOSE, None, None] * growth)
