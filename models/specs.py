"""The kinds of model: how each is fitted and loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from errors import TrainingUnavailable
from models.base import Forecaster
from models.baselines.drift import Drift, fit_drift, load_drift
from models.baselines.ewma import Ewma, fit_ewma, load_ewma
from models.baselines.gjr_garch import GjrGarch, fit_gjr_garch, load_gjr_garch
from models.baselines.gradient_boosting import (
    GradientBoosting,
    fit_gradient_boosting,
    load_gradient_boosting,
)
from models.baselines.persistence import Persistence, fit_persistence, load_persistence
from models.baselines.rolling_empirical import RollingEmpirical, fit_rolling_empirical, load_rolling_empirical
from models.baselines.volatility_regression import (
    VolatilityRegression,
    fit_volatility_regression,
    load_volatility_regression,
)
from models.checked import CheckedForecaster
from models.fitting import NETWORK, PARAMETERS, WEIGHTS, Fit, FitBlocks, FitSettings, FittedModel, OnEpoch
from models.trading import HaltAwareForecaster

Load = Callable[[Mapping[str, bytes], Sequence[float]], Forecaster]
"""From the files and the quantile levels of a card to a forecaster; raises ArtifactCorrupt."""


@dataclass(frozen=True)
class ModelSpec:
    """A kind of model.

    Attributes:
        fit: imports torch only when it is called.
        load: reads the files of ``fit``, without torch.
        files: the names of those files.
        lookback: fixed lookback in sessions; None where the request chooses it.
        reads_market: whether it reads the market of the exchange, where that is known.
        pools: whether one model can be fitted to several tickers.
    """

    fit: Fit
    load: Load
    files: tuple[str, ...]
    lookback: int | None = None
    reads_market: bool = False
    pools: bool = True

    @property
    def has_network(self) -> bool:
        """Whether its fit imports torch and Lightning, which takes seconds."""
        return NETWORK in self.files


_DISTRIBUTIONS = {"scipy": "scipy", "sklearn": "scikit-learn"}


def _closed_form(
    fit: Fit,
    load: Load,
    lookback: int,
    *,
    needs: Sequence[str] = (),
    reads_market: bool = False,
    pools: bool = True,
) -> ModelSpec:
    def fit_where_installed(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
        for module in needs:  # not "arch", which a serving installation has for its data
            if find_spec(module) is None:
                missing = _DISTRIBUTIONS[module]
                raise TrainingUnavailable(
                    f"{missing} is not installed: this installation can only fit the simplest baselines"
                )
        return fit(series, settings, on_epoch)

    def load_halt_aware(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Forecaster:
        return HaltAwareForecaster(CheckedForecaster(load(files, quantile_levels)))

    return ModelSpec(
        fit_where_installed,
        load_halt_aware,
        files=(PARAMETERS,),
        lookback=lookback,
        reads_market=reads_market,
        pools=pools,
    )


def _network(import_fit: Callable[[], Fit], *, reads_market: bool = False) -> ModelSpec:
    def fit(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
        if find_spec("torch") is None:
            raise TrainingUnavailable("torch is not installed: this installation can only train models without it")
        return import_fit()(series, settings, on_epoch)

    def load(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Forecaster:
        from models.runtime import OnnxForecaster

        return HaltAwareForecaster(CheckedForecaster(OnnxForecaster(files[NETWORK], quantile_levels)))

    return ModelSpec(fit, load, files=(WEIGHTS, NETWORK), reads_market=reads_market)


def _return_lstm() -> Fit:
    from models.lstm.forecaster import fit_return_lstm

    return fit_return_lstm


def _price_lstm() -> Fit:
    from models.lstm.point_forecaster import fit_price_lstm

    return fit_price_lstm


def _ratio_lstm() -> Fit:
    from models.lstm.point_forecaster import fit_ratio_lstm

    return fit_ratio_lstm


MODEL_SPECS: Mapping[str, ModelSpec] = {
    "return_lstm": _network(_return_lstm, reads_market=True),
    "price_lstm": _network(_price_lstm),
    "ratio_lstm": _network(_ratio_lstm),
    "persistence": _closed_form(fit_persistence, load_persistence, Persistence.lookback),
    "drift": _closed_form(fit_drift, load_drift, Drift.lookback),
    "rolling_empirical": _closed_form(fit_rolling_empirical, load_rolling_empirical, RollingEmpirical.lookback),
    "ewma": _closed_form(fit_ewma, load_ewma, Ewma.lookback),
    "gjr_garch": _closed_form(fit_gjr_garch, load_gjr_garch, GjrGarch.lookback, needs=("scipy",), pools=False),
    "volatility_regression": _closed_form(
        fit_volatility_regression, load_volatility_regression, VolatilityRegression.lookback, needs=("scipy",)
    ),
    "gradient_boosting": _closed_form(
        fit_gradient_boosting,
        load_gradient_boosting,
        GradientBoosting.lookback,
        needs=("scipy", "sklearn"),
        reads_market=True,
    ),
}

BASELINES: Mapping[str, ModelSpec] = {name: spec for name, spec in MODEL_SPECS.items() if not spec.has_network}
"""The kinds without a network; every backtest compares the model with them."""
