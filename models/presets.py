"""The kinds of model a request can name: how each is fitted, and how it is read back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.base import Forecaster
from models.fitting import NETWORK, WEIGHTS, Fit, FitBlocks, FitSettings, FittedModel, OnEpoch

Load = Callable[[Mapping[str, bytes], Sequence[float]], Forecaster]
"""A forecaster from its files and the quantile levels its card names; raises ArtifactCorrupt."""


@dataclass(frozen=True)
class Preset:
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


def _fit_return_lstm(series: Sequence[FitBlocks], settings: FitSettings, on_epoch: OnEpoch) -> FittedModel:
    from models.lstm.forecaster import fit_return_lstm

    return fit_return_lstm(series, settings, on_epoch)


def _load_network(files: Mapping[str, bytes], quantile_levels: Sequence[float]) -> Forecaster:
    from models.runtime import OnnxForecaster

    return OnnxForecaster(files[NETWORK], quantile_levels)


PRESETS: Mapping[str, Preset] = {
    "return_lstm": Preset(_fit_return_lstm, _load_network, files=(WEIGHTS, NETWORK)),
}
