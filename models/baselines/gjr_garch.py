"""GJR-GARCH(1,1) with Student-t errors: variance persists, and a negative return raises it more than a positive one.

With e = return − mean, the variance of the next session is

    v' = omega + (alpha + gamma · [e < 0]) · e² + beta · v

Source: Glosten, Jagannathan and Runkle (1993), J. Finance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from errors import ArtifactCorrupt, InvalidRequest, NotFittable, ZeroVariance
from models.base import CLOSE, QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.baselines.closed_form import (
    Parameters,
    fitted,
    price_forecast,
    read_parameters,
    recent_log_closes,
    sessions_to_fit,
)
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch
from models.trading import is_untraded

MIN_TRADED = 100  # sessions, for four parameters and a Student-t distribution
PERCENT = 100.0  # the optimiser of ``arch`` needs returns of about 1


class GjrGarchParameters(Parameters):
    """Of log returns per session, as fractions.

    Attributes:
        mean: of the returns.
        omega, alpha, gamma, beta: as in the formula above.
        start_variance: the variance before the window; after 250 sessions its weight is small.
        quantiles: of the errors in units of their standard deviation, one per quantile level.
    """

    mean: float
    omega: float = Field(ge=0)
    alpha: float = Field(ge=0)
    gamma: float
    beta: float = Field(ge=0)
    start_variance: float = Field(gt=0)
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class GjrGarch:
    """The variance filtered through the window, then its expected path; Student-t quantiles around h · mean."""

    parameters: GjrGarchParameters
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = 251

    @property
    def horizon(self) -> int:
        return self.parameters.horizon

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        # the sum of the steps' errors is approximated by a Student-t like that of each of them
        returns = np.diff(recent_log_closes(bars, origins, self.lookback), axis=1)
        spread = np.sqrt(self._cumulative_variance(self._filtered(returns)))  # (n_origins, horizon)
        location = self.parameters.mean * np.arange(1, self.horizon + 1)
        log_returns = location[:, None] + spread[..., None] * np.array(self.parameters.quantiles)
        return price_forecast(bars, origins, log_returns, self.levels)

    def _filtered(self, returns: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of the session after each window of returns, shape (n_origins,)."""
        known = self.parameters
        variance = np.full(len(returns), known.start_variance)
        for error in (returns - known.mean).T:  # oldest first
            variance = known.omega + (known.alpha + known.gamma * (error < 0)) * error**2 + known.beta * variance
        return variance

    def _cumulative_variance(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected variance of the return over steps 1…h, shape (n_origins, horizon)."""
        known = self.parameters
        persistence = known.alpha + known.gamma / 2 + known.beta  # half of the errors of a Student-t are negative
        path = np.empty((variance.size, self.horizon))
        for step in range(self.horizon):
            path[:, step] = variance
            variance = known.omega + persistence * variance
        return np.cumsum(path, axis=1)


def fit_gjr_garch(series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    """Maximum likelihood on the returns of one ticker before the calibration block.

    Raises:
        InvalidRequest: several series, whose variances differ.
        ZeroVariance: the returns never vary.
        NotFittable: too few sessions traded, or the likelihood has no finite maximum.
    """
    if len(series) != 1:
        raise InvalidRequest(f"gjr_garch is fitted to one ticker, not to {len(series)}")
    known = sessions_to_fit(series[0])
    traded = known[~is_untraded(known)]
    if len(traded) < MIN_TRADED:
        raise NotFittable(f"gjr_garch needs {MIN_TRADED} sessions that traded, found {len(traded)}")
    returns = np.diff(np.log(traded[:, CLOSE]))
    if returns.std() < 1e-9:  # far below a tick
        raise ZeroVariance("all returns are equal: there is no variance to fit")
    return fitted(_maximum_likelihood(returns, settings.horizon))


def load_gjr_garch(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> GjrGarch:
    parameters = read_parameters(GjrGarchParameters, files)
    if len(parameters.quantiles) != len(quantile_levels):
        raise ArtifactCorrupt(f"expected {len(quantile_levels)} quantiles, found {len(parameters.quantiles)}")
    return GjrGarch(parameters, tuple(quantile_levels))


def _maximum_likelihood(returns: NDArray[np.float64], horizon: int) -> GjrGarchParameters:
    from arch import arch_model
    from scipy import stats

    model = arch_model(PERCENT * returns, mean="Constant", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
    # an optimiser that stops before the maximum still gives a usable baseline
    with np.errstate(all="ignore"):
        found = model.fit(disp="off", show_warning=False).params
    if not np.isfinite(found).all() or found["nu"] <= 2:
        raise NotFittable("the likelihood of gjr_garch has no finite maximum for these returns")
    dof = found["nu"]
    standardized = stats.t.ppf(QUANTILE_GRID, dof) * np.sqrt((dof - 2) / dof)
    return GjrGarchParameters(
        horizon=horizon,
        mean=found["mu"] / PERCENT,
        omega=max(found["omega"], 0.0) / PERCENT**2,  # the optimum may be below its bound by a rounding error
        alpha=max(found["alpha[1]"], 0.0),
        gamma=found["gamma[1]"],
        beta=max(found["beta[1]"], 0.0),
        start_variance=returns.var(),
        quantiles=tuple(standardized),
    )
