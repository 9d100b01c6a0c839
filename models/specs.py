"""The kinds of model a request can name: how each is fitted, and how it is read back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from errors import TrainingUnavailable
from models import baselines
from models.base import Forecaster
from models.fitting import NETWORK, PARAMETERS, WEIGHTS, Fit, FitBlocks, FitSettings, FittedModel, OnEpoch
from models.trading import HaltAwareForecaster

Load = Callable[[Mapping[str, bytes], Sequence[float]], Forecaster]
"""A forecaster from its files and the quantile levels its card names; raises ArtifactCorrupt."""


@dataclass(frozen=True)
class ModelSpec:
    """A kind of model.

    Attributes:
        fit: brings torch along only once it is called.
        load: reads what ``fit`` wrote, without torch.
        files: the names of those files.
        lookback: sessions it looks back whatever the request says; None when the request decides.
    """

    fit: Fit
    load: Load
    files: tuple[str, ...]
    lookback: int | None = None


def _validate_torch() -> None:
    if find_spec("torch") is None:
        raise TrainingUnavailable("this installation has no torch: it forecasts, and trains models without a network")


def _validate_scipy() -> None:
    if find_spec("scipy") is None:  # not "arch": what serves has that for its data
        raise TrainingUnavailable("this installation has no scipy: it forecasts, and fits the simplest kinds only")


def _fit_gjr_garch(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    _validate_scipy()
    return baselines.fit_gjr_garch(series, settings, on_epoch)


def _fit_volatility_regression(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    _validate_scipy()
    return baselines.fit_volatility_regression(series, settings, on_epoch)


def _fit_return_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    _validate_torch()
    from models.lstm.forecaster import fit_return_lstm

    return fit_return_lstm(series, settings, on_epoch)


def _fit_price_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    _validate_torch()
    from models.lstm.point_forecaster import fit_price_lstm

    return fit_price_lstm(series, settings, on_epoch)


def _fit_ratio_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    _validate_torch()
    from models.lstm.point_forecaster import fit_ratio_lstm

    return fit_ratio_lstm(series, settings, on_epoch)


def _load_network(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Forecaster:
    from models.runtime import OnnxForecaster

    return HaltAwareForecaster(OnnxForecaster(files[NETWORK], quantile_levels))


def _closed_form(fit: Fit, load: Load, lookback: int) -> ModelSpec:
    def load_halt_aware(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Forecaster:
        return HaltAwareForecaster(load(files, quantile_levels))

    return ModelSpec(fit, load_halt_aware, files=(PARAMETERS,), lookback=lookback)


MODEL_SPECS: Mapping[str, ModelSpec] = {
    "return_lstm": ModelSpec(_fit_return_lstm, _load_network, files=(WEIGHTS, NETWORK)),
    "price_lstm": ModelSpec(_fit_price_lstm, _load_network, files=(WEIGHTS, NETWORK)),
    "ratio_lstm": ModelSpec(_fit_ratio_lstm, _load_network, files=(WEIGHTS, NETWORK)),
    "persistence": _closed_form(baselines.fit_persistence, baselines.load_persistence, baselines.Persistence.lookback),
    "drift": _closed_form(baselines.fit_drift, baselines.load_drift, baselines.Drift.lookback),
    "rolling_empirical": _closed_form(
        baselines.fit_rolling_empirical, baselines.load_rolling_empirical, baselines.RollingEmpirical.lookback
    ),
    "ewma": _closed_form(baselines.fit_ewma, baselines.load_ewma, baselines.Ewma.lookback),
    "gjr_garch": _closed_form(_fit_gjr_garch, baselines.load_gjr_garch, baselines.GjrGarch.lookback),
    "volatility_regression": _closed_form(
        _fit_volatility_regression,
        baselines.load_volatility_regression,
        baselines.VolatilityRegression.lookback,
    ),
}

BASELINES: Mapping[str, ModelSpec] = {name: spec for name, spec in MODEL_SPECS.items() if spec.files == (PARAMETERS,)}
"""The kinds that need no training, against which every backtest sets the model."""
