"""Methods that are fitted again at every origin, as their users do: statsforecast and Prophet."""

import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.peers.task import HORIZON, LEVELS, Known, Past, Values

# Newest sessions that a fit reads. The first three are the best of 250, 500, 1000 and 2000 on 2015 and 2016, before the
# test: 500, 500, 2000. Prophet looks for a season of the year, so it has four years.
WINDOW = {"random_walk": 500, "auto_ets": 500, "garch": 2000, "prophet": 1000}
COVERAGES = sorted({round(abs(200 * level - 100), 6) for level in LEVELS if level != 0.5})
NORMAL = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


class EachOrigin:
    """Fits and forecasts in one step, so that there is nothing to keep between two processes."""

    def fit(self, known: Known, folder: Path) -> None:
        """Nothing is fitted before an origin is known."""

    def load(self, folder: Path) -> None:
        """Nothing was stored."""

    def forecast(self, pasts: Sequence[Past]) -> Values:
        return np.array([self.one(past) for past in pasts])

    def one(self, past: Past) -> Values:
        """Quantiles of one ticker, shape (HORIZON, len(LEVELS))."""
        raise NotImplementedError


class _OfLogPrices(EachOrigin):
    """A model of statsforecast on log prices; its intervals state the quantiles."""

    name = ""

    def one(self, past: Past) -> Values:
        found = self.model().forecast(y=np.log(past.closes[-WINDOW[self.name] :]), h=HORIZON, level=COVERAGES)
        columns = [_column(level) for level in LEVELS]
        quantiles: Values = np.exp(np.stack([found[column] for column in columns], axis=-1))
        return quantiles

    def model(self) -> Any:
        """A model of the library that is not fitted."""
        raise NotImplementedError


def _column(level: float) -> str:
    """What statsforecast calls a quantile.

    >>> _column(0.5), _column(0.1), _column(0.975)
    ('mean', 'lo-80.0', 'hi-95.0')
    """
    if level == 0.5:
        return "mean"
    return f"{'lo' if level < 0.5 else 'hi'}-{round(abs(200 * level - 100), 6)}"


class RandomWalk(_OfLogPrices):
    """statsforecast's ``Naive``."""

    name = "random_walk"

    def model(self) -> Any:
        from statsforecast.models import Naive

        return Naive()


class AutoEts(_OfLogPrices):
    """statsforecast's ``AutoETS`` without a season, which chooses error, trend and damping by AICc."""

    name = "auto_ets"

    def model(self) -> Any:
        from statsforecast.models import AutoETS

        return AutoETS(season_length=1)


class Garch(EachOrigin):
    """statsforecast's ``GARCH(1, 1)`` on log returns in percent.

    Its ``forecast`` simulates a single path from a fixed seed, and calls the random returns of that path ``mean``. So
    the fitted coefficients are used: returns have mean zero and the expected variance of each session. Those variances
    add up to the variance of the log price.
    """

    def one(self, past: Past) -> Values:
        from statsforecast.models import GARCH

        returns = 100 * np.diff(np.log(past.closes[-WINDOW["garch"] - 1 :]))
        fitted = GARCH(1, 1).fit(returns).model_
        omega, alpha, beta = fitted["coeff"]
        variances = [omega + alpha * returns[-1] ** 2 + beta * fitted["sigma2_vals"][-1]]
        for _ in range(HORIZON - 1):
            variances.append(omega + (alpha + beta) * variances[-1])
        scale = np.sqrt(np.cumsum(variances)) / 100
        quantiles: Values = past.closes[-1] * np.exp(scale[:, None] * NORMAL)
        return quantiles


class Prophet(EachOrigin):
    """Prophet with its defaults, on log prices at the dates of their sessions, forecast for the next weekdays."""

    def one(self, past: Past) -> Values:
        import pandas as pd
        from prophet import Prophet as Model

        logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
        recent = slice(-WINDOW["prophet"], None)
        known = pd.DataFrame({"ds": past.sessions[recent], "y": np.log(past.closes[recent])})
        model = Model(daily_seasonality=False).fit(known, seed=0)
        np.random.seed(0)  # noqa: NPY002 - Prophet draws from the global generator
        following = pd.bdate_range(known.ds.iloc[-1] + pd.Timedelta(days=1), periods=HORIZON)
        samples = model.predictive_samples(pd.DataFrame({"ds": following}))["yhat"]  # (HORIZON, n_samples)
        quantiles: Values = np.exp(np.quantile(samples, LEVELS, axis=1).T)
        return quantiles
