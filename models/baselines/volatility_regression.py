"""Future log range volatility, regressed on its means over a day, a week, a month and a quarter.

Source: Corsi (2009), J. Financial Econometrics ("HAR"), here for the log range.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from errors import ArtifactCorrupt, NotFittable
from models.base import CLOSE, HIGH, LOW, OPEN, QUANTILE_GRID, Bars, Origins, QuantileForecast
from models.baselines.closed_form import Parameters, fitted, price_forecast, read_parameters, sessions_to_fit
from models.fitting import FitBlocks, FitSettings, FittedModel, OnEpoch
from models.windows import future_closes, lookback_windows

MEAN_WIDTHS = (1, 5, 22, 60)  # sessions
LOOKBACK = max(MEAN_WIDTHS) + 1  # a return needs the close before it
MIN_OUTCOMES = 30  # of each step, for a Student-t distribution
MIN_RANGE = 1e-4  # one basis point: keeps the logarithm finite where the price did not move
MIN_SPREAD = 1e-6  # of returns in units of their range, usually about a half
DEGREES_OF_FREEDOM = (0.5, 1e4)  # search bounds; above, a Student-t is nearly normal
LOG_SCALE_BOUNDS = (-12.0, 12.0)  # of a standardized sample: keeps the search from dividing by zero
MAX_LOG_SCALE = 1.0  # the regression is not valid far outside the fitted data


class VolatilityRegressionParameters(Parameters):
    """One row per step.

    Attributes:
        coefficients: of the intercept and the means of log range, shape (horizon, 1 + len(MEAN_WIDTHS)).
        quantiles: of the log return in units of the forecast range, shape (horizon, n_levels).
    """

    coefficients: tuple[tuple[float, float, float, float, float], ...]
    quantiles: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class VolatilityRegression:
    """Student-t quantiles of the standardized return times the range forecast for each step."""

    parameters: VolatilityRegressionParameters
    levels: tuple[float, ...] = QUANTILE_GRID
    lookback: int = LOOKBACK

    @property
    def horizon(self) -> int:
        return self.parameters.horizon

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        regressors = _regressors(log_ranges(lookback_windows(bars, origins, LOOKBACK)))
        scale = _scale(regressors, np.array(self.parameters.coefficients))  # (n_origins, horizon)
        log_returns = scale[..., None] * np.array(self.parameters.quantiles)
        return price_forecast(bars, origins, log_returns, self.levels)


def fit_volatility_regression(series: Sequence[FitBlocks], settings: FitSettings, _on_epoch: OnEpoch) -> FittedModel:
    """Least squares for each step, then a Student-t for the standardized returns; several series are stacked.

    Raises:
        NotFittable: most closes never moved, or too few sessions traded.
    """
    samples = _Samples.stacked([_Samples.of(sessions_to_fit(one), settings.horizon) for one in series])
    coefficients = np.array([_least_squares(samples.regressors, target) for target in samples.log_range.T])
    standardized = samples.log_return / _scale(samples.regressors, coefficients)
    parameters = VolatilityRegressionParameters(
        horizon=settings.horizon,
        coefficients=tuple(map(tuple, coefficients.tolist())),
        quantiles=tuple(student_t_quantiles(step[~np.isnan(step)]) for step in standardized.T),
    )
    return fitted(parameters, mean_widths=list(MEAN_WIDTHS))


def load_volatility_regression(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> VolatilityRegression:
    parameters = read_parameters(VolatilityRegressionParameters, files)
    shape = (len(parameters.coefficients), *{len(step) for step in parameters.quantiles})
    if shape != (parameters.horizon, len(quantile_levels)) or len(parameters.quantiles) != parameters.horizon:
        raise ArtifactCorrupt(f"expected quantiles of {parameters.horizon} steps at {len(quantile_levels)} levels")
    return VolatilityRegression(parameters, tuple(quantile_levels))


@dataclass(frozen=True, eq=False)
class _Samples:
    """Regressors and targets: a row per origin, a column per step, NaN where the step is unknown.

    ``log_range`` is the mean log range over steps 1…h, ``log_return`` the cumulative return.
    """

    regressors: NDArray[np.float64]
    log_range: NDArray[np.float64]
    log_return: NDArray[np.float64]

    @classmethod
    def of(cls, bars: Bars, horizon: int) -> "_Samples":
        origins = np.arange(LOOKBACK - 1, len(bars))
        ranges = log_ranges(lookback_windows(bars, origins, LOOKBACK))
        return cls(_regressors(ranges), *outcomes(bars, origins, ranges[:, -1], horizon))

    @classmethod
    def stacked(cls, parts: "Sequence[_Samples]") -> "_Samples":
        return cls(
            np.concatenate([part.regressors for part in parts]),
            np.concatenate([part.log_range for part in parts]),
            np.concatenate([part.log_return for part in parts]),
        )


def outcomes(
    bars: Bars, origins: Origins, newest: NDArray[np.float64], horizon: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean log range over steps 1…h and the cumulative log return, each (n_origins, horizon), NaN where unknown.

    Args:
        bars: shape (n_sessions, 5).
        origins: shape (n_origins,).
        newest: log range of the session of each origin, shape (n_origins,).
        horizon: steps after each origin.
    """
    ranges = np.full_like(bars, np.nan)
    ranges[origins, CLOSE] = newest  # replaces the close, so that ``future_closes`` finds the ranges too
    ahead = future_closes(ranges, origins, horizon)
    returns = np.log(future_closes(bars, origins, horizon) / bars[origins, CLOSE, None])
    return np.cumsum(ahead, axis=1) / np.arange(1, horizon + 1), returns


def log_ranges(windows: Bars) -> NDArray[np.float64]:
    """Log of ln(high / low) for the sessions of each window but the first, (n, lookback, ≥ 4) to (n, lookback − 1).

    Where only the close of a session is known, its |log return| plus the window's mean |log return| replaces the
    range: over a random walk the range is on average twice the |return|, and the mean keeps it above zero.
    """
    prices = np.log(np.ascontiguousarray(windows[..., : CLOSE + 1]))
    unknown = np.isnan(prices[:, 1:, [OPEN, HIGH, LOW]]).any(axis=-1)
    move = np.abs(np.diff(prices[..., CLOSE], axis=1))
    stand_in = move + move.mean(axis=1, keepdims=True)
    seen = prices[:, 1:, HIGH] - prices[:, 1:, LOW]
    return np.log(np.maximum(np.where(unknown, stand_in, seen), MIN_RANGE))


def _regressors(log_ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """An intercept and the mean log range over each of MEAN_WIDTHS, shape (n_origins, 1 + len(MEAN_WIDTHS))."""
    means = [log_ranges[:, -width:].mean(axis=1) for width in MEAN_WIDTHS]
    return np.column_stack([np.ones(len(log_ranges)), *means])


def _scale(regressors: NDArray[np.float64], coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """The range forecast for every step, shape (n_origins, horizon)."""
    # not a matrix product: its rounding depends on the number of origins
    log_scale = (regressors[:, None, :] * coefficients).sum(axis=-1)
    scale: NDArray[np.float64] = np.exp(np.minimum(log_scale, MAX_LOG_SCALE))
    return scale


def _least_squares(regressors: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    known = ~np.isnan(target)
    coefficients, *_ = np.linalg.lstsq(regressors[known], target[known], rcond=None)
    return np.asarray(coefficients, dtype=np.float64)


def student_t_quantiles(standardized: NDArray[np.float64]) -> tuple[float, ...]:
    from scipy.special import stdtrit  # scipy.stats, which has the same quantiles, takes half a second to import

    if standardized.size < MIN_OUTCOMES:
        raise NotFittable(f"need {MIN_OUTCOMES} outcomes of each step, found {standardized.size}")
    if standardized.std() < MIN_SPREAD:  # the likelihood has no maximum
        return (float(standardized.mean()),) * len(QUANTILE_GRID)
    if np.median(np.abs(standardized - np.median(standardized))) < MIN_SPREAD:  # likewise: half of the values are equal
        raise NotFittable("more than half of the returns are equal: no Student-t distribution fits them")
    df, location, scale = _student_t(standardized)
    return tuple((location + scale * stdtrit(df, np.array(QUANTILE_GRID))).tolist())


def _student_t(sample: NDArray[np.float64]) -> tuple[float, float, float]:
    """Degrees of freedom, location and scale of maximum likelihood.

    The same optimum as ``scipy.stats.t.fit``, but with the gradient and much faster: a backtest fits one per step.
    """
    from scipy import optimize
    from scipy.special import digamma, gammaln

    centre, unit = float(np.median(sample)), float(sample.std())
    z = (sample - centre) / unit

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean negative log likelihood of z by log degrees of freedom, location and log scale, and its gradient."""
        df, scale = np.exp(parameters[[0, 2]])
        x = (z - parameters[1]) / scale
        spread = np.log1p(x * x / df).mean()
        pull = (df + 1) * x / (df + x * x)
        half = (df + 1) / 2
        value = gammaln(df / 2) - gammaln(half) + math.log(df * math.pi) / 2 + math.log(scale) + half * spread
        by_log_df = df * (digamma(df / 2) - digamma(half) + spread) / 2 + (1 - (pull * x).mean()) / 2
        return value, np.array([by_log_df, -pull.mean() / scale, 1 - (pull * x).mean()])

    low, high = np.log(DEGREES_OF_FREEDOM)
    start = [math.log(5.0), 0.0, math.log(0.8)]
    bounds = [(low, high), (None, None), LOG_SCALE_BOUNDS]
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    log_df, location, log_scale = found.x.tolist()
    return math.exp(log_df), centre + unit * location, unit * math.exp(log_scale)
