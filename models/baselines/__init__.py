"""Baselines that need no training worth the name; persistence is always shown beside a forecast."""

from models.baselines.drift import Drift, fit_drift, load_drift
from models.baselines.ewma import Ewma, fit_ewma, load_ewma
from models.baselines.gjr_garch import GjrGarch, fit_gjr_garch, load_gjr_garch
from models.baselines.persistence import Persistence, fit_persistence, load_persistence
from models.baselines.rolling_empirical import RollingEmpirical, fit_rolling_empirical, load_rolling_empirical
from models.baselines.volatility_regression import (
    VolatilityRegression,
    fit_volatility_regression,
    load_volatility_regression,
)

__all__ = [
    "Drift",
    "Ewma",
    "GjrGarch",
    "Persistence",
    "RollingEmpirical",
    "VolatilityRegression",
    "fit_drift",
    "fit_ewma",
    "fit_gjr_garch",
    "fit_persistence",
    "fit_rolling_empirical",
    "fit_volatility_regression",
    "load_drift",
    "load_ewma",
    "load_gjr_garch",
    "load_persistence",
    "load_rolling_empirical",
    "load_volatility_regression",
]
