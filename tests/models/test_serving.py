"""A fitted model made ready to serve: calibrated on the blocks it has not seen."""

import numpy as np
import pytest

from models.adaptive import AdaptiveForecaster
from models.conformal import CalibratedForecaster, Calibration
from models.fitting import FitBlocks, FitSettings
from models.serving import calibrated
from models.specs import MODEL_SPECS
from schemas.train import CalibrationKind
from tests.fakes import random_walk

SPEC = MODEL_SPECS["persistence"]
SETTINGS = FitSettings(lookback=1, horizon=2, max_epochs=1, patience=1, max_seconds=60.0, seed=0)
FITTED = SPEC.fit([FitBlocks(random_walk(50), range(30), range(30, 40))], SETTINGS, lambda _: None)


def test_the_scores_are_those_of_every_block_up_to_the_session_after_it() -> None:
    one, other = random_walk(400), random_walk(300, seed=1)

    model = calibrated(SPEC, FITTED, [(one, range(100, 350)), (other, range(200, 299)), (one, range(5, 5))], "static")

    forecaster = SPEC.load(FITTED.files, FITTED.quantile_levels)
    parts = [
        Calibration.of(forecaster, one, np.arange(100, 350), stop=351),
        Calibration.of(forecaster, other, np.arange(200, 299), stop=300),
    ]
    for found, expected in zip(model.calibration.scores, Calibration.pooled(parts).scores, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [step.size for step in model.calibration.scores] == [349, 347]


def test_no_more_than_500_scores_of_each_step_are_kept() -> None:
    model = calibrated(SPEC, FITTED, [(random_walk(700), range(100, 650))], "static")

    assert [step.size for step in model.calibration.scores] == [500, 500]


@pytest.mark.parametrize(("kind", "expected"), [("static", CalibratedForecaster), ("adaptive", AdaptiveForecaster)])
def test_intervals_stay_or_follow_their_record(kind: CalibrationKind, expected: type) -> None:
    assert type(calibrated(SPEC, FITTED, [(random_walk(400), range(100, 350))], kind)) is expected
