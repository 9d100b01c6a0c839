"""A fitted model made ready to serve: read back from its own files and calibrated on a block it has not seen."""

from collections.abc import Iterable

import numpy as np

from models.adaptive import AdaptiveForecaster
from models.base import Bars, Forecaster
from models.conformal import CalibratedForecaster, Calibration, ServedForecaster
from models.fitting import FittedModel
from models.specs import ModelSpec
from models.windows import target_stop
from schemas.train import CalibrationKind

MAX_SCORES = 500  # of each step: a universe has a hundred thousand, and more would not move a margin


def calibrated(
    spec: ModelSpec, fitted: FittedModel, blocks: Iterable[tuple[Bars, range]], kind: CalibrationKind
) -> ServedForecaster:
    """The model as it will be served, with the conformity scores of all blocks together.

    Args:
        spec: the kind of model.
        fitted: its files.
        blocks: bars and calibration origins of each ticker.
        kind: whether intervals stay as calibrated, or follow their record.
    """
    forecaster = spec.load(fitted.files, fitted.quantile_levels)
    parts = [Calibration.of(forecaster, bars, np.array(block), target_stop(block)) for bars, block in blocks if block]
    return served(forecaster, Calibration.pooled(parts).thinned(MAX_SCORES), kind)


def served(forecaster: Forecaster, calibration: Calibration, kind: CalibrationKind) -> ServedForecaster:
    """A forecaster with its promise of intervals."""
    if kind == "static":
        return CalibratedForecaster(forecaster, calibration)
    return AdaptiveForecaster(forecaster, calibration)
