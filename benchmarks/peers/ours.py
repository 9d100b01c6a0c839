"""Our own methods: the universal network as it is served, continued per ticker, and four baselines."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.peers.task import HORIZON, LEVELS, Known, Past, Values
from models.base import Forecaster
from models.conformal import ServedForecaster
from models.fitting import WEIGHTS, FitBlocks, FitSettings, FittedModel
from models.serving import calibrated, served
from models.specs import MODEL_SPECS
from schemas.train import TrainRequest
from services.evaluation.splits import split_train
from services.storage.registry import calibration_from_json, calibration_to_json
from services.training.train import DEFAULT_SESSIONS, fit_settings

NETWORK = "return_lstm"
CALIBRATION, LEVELS_FILE = "calibration.json", "levels.json"


class Baseline:
    """A baseline as in a backtest: fitted once to everything before the test."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._ready: dict[str, Forecaster] = {}

    def fit(self, known: Known, folder: Path) -> None:
        spec, settings = MODEL_SPECS[self.kind], _settings(self.kind)
        for past in known.tested:
            last = len(past.bars) - 1
            block = FitBlocks(past.bars, range(settings.lookback - 1, last), range(last, last))
            _write(spec.fit([block], settings, lambda _: None), folder / past.ticker)

    def load(self, folder: Path) -> None:
        for path in folder.iterdir():
            self._ready[path.name] = MODEL_SPECS[self.kind].load(*_read(path))

    def forecast(self, pasts: Sequence[Past]) -> Values:
        return np.array([_quantiles(self._ready[past.ticker], past) for past in pasts])


class Universal:
    """One network, fitted to other tickers and calibrated on them; it has never seen those that it forecasts."""

    def fit(self, known: Known, folder: Path) -> None:
        spec, settings = MODEL_SPECS[NETWORK], _settings(NETWORK)
        blocks = [_blocks(past, known.stop_from, settings.lookback) for past in known.others]
        fitted = spec.fit(blocks, settings, lambda _: None)
        model = calibrated(spec, fitted, [(one.bars, one.early_stopping) for one in blocks], "adaptive")
        _write(fitted, folder, model)

    def load(self, folder: Path) -> None:
        self._ready = _served(folder)

    def forecast(self, pasts: Sequence[Past]) -> Values:
        return np.array([_quantiles(self._ready, past) for past in pasts])


class Static:
    """The same network with intervals that do not adapt, which saves the replay of 500 sessions.

    Args:
        universal: the folder of the fitted ``Universal``.
    """

    def __init__(self, universal: Path) -> None:
        self._universal = universal

    def fit(self, known: Known, folder: Path) -> None:
        """The other's fit is read."""

    def load(self, folder: Path) -> None:  # noqa: ARG002 - of the protocol
        self._ready = _served(self._universal).static

    def forecast(self, pasts: Sequence[Past]) -> Values:
        return np.array([_quantiles(self._ready, past) for past in pasts])


class Continued:
    """The same network, trained further on each ticker by the steps of a training request.

    Args:
        universal: the folder of the fitted ``Universal``.
    """

    def __init__(self, universal: Path) -> None:
        self._universal = universal
        self._ready: dict[str, ServedForecaster] = {}

    def fit(self, known: Known, folder: Path) -> None:
        spec = MODEL_SPECS[NETWORK]
        settings = replace(_settings(NETWORK), start=(self._universal / WEIGHTS).read_bytes())
        for past in known.tested:
            bars = past.bars[-DEFAULT_SESSIONS:]
            split = split_train(past.ticker, len(bars), settings.lookback)
            fitted = spec.fit([FitBlocks(bars, split.fit, split.early_stopping)], settings, lambda _: None)
            model = calibrated(spec, fitted, [(bars, split.calibration)], "adaptive")
            _write(fitted, folder / past.ticker, model)

    def load(self, folder: Path) -> None:
        self._ready = {path.name: _served(path) for path in folder.iterdir()}

    def forecast(self, pasts: Sequence[Past]) -> Values:
        return np.array([_quantiles(self._ready[past.ticker], past) for past in pasts])


def _settings(kind: str) -> FitSettings:
    request = TrainRequest.model_validate({"ticker": "X", "model": kind})
    return replace(fit_settings(request, MODEL_SPECS[kind].lookback or request.sequence_length), max_seconds=3600.0)


def _blocks(past: Past, stop_from: np.datetime64, lookback: int) -> FitBlocks:
    """Origins before ``stop_from`` to fit and later ones to stop, none with an outcome beyond the history."""
    test = len(past.bars)
    stop = max(lookback, int(np.searchsorted(past.sessions, stop_from)))
    return FitBlocks(past.bars, range(lookback - 1, stop - 1), range(stop - 1, test - 1))


def _write(fitted: FittedModel, folder: Path, model: ServedForecaster | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in fitted.files.items():
        (folder / name).write_bytes(content)
    (folder / LEVELS_FILE).write_text(json.dumps(fitted.quantile_levels), encoding="utf-8")
    if model is not None:
        (folder / CALIBRATION).write_bytes(calibration_to_json(model.calibration))


def _read(folder: Path) -> tuple[dict[str, bytes], Sequence[float]]:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files, json.loads(files[LEVELS_FILE])


def _served(folder: Path) -> ServedForecaster:
    files, levels = _read(folder)
    calibration = calibration_from_json(files[CALIBRATION])
    return served(MODEL_SPECS[NETWORK].load(files, levels), calibration, "adaptive")


def _quantiles(forecaster: Forecaster, past: Past) -> Values:
    wanted = getattr(forecaster, "wanted_sessions", forecaster.lookback + 1)  # as many as a server would read
    bars = past.bars[-wanted:]
    found = forecaster.predict_quantiles(bars, np.array([len(bars) - 1]))
    return found.at(LEVELS)[0, :HORIZON]
