"""The kinds of model: what a request may name is what can be fitted and read back."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from errors import ArtifactCorrupt, TrainingUnavailable
from models.fitting import FitSettings
from models.specs import MODEL_SPECS
from schemas.train import ModelName
from services.storage.registry import ModelRegistry
from services.storage.store import LocalArtifactStore
from tests.fakes import random_walk

DATA = Path(__file__).parents[1] / "data"


def test_every_kind_a_request_may_name_is_there_and_no_other() -> None:
    assert set(get_args(ModelName)) == set(MODEL_SPECS)


@pytest.mark.parametrize("name", MODEL_SPECS)
def test_files_of_something_else_are_corrupt(name: str) -> None:
    files = dict.fromkeys(MODEL_SPECS[name].files, b"\x00not it")

    with pytest.raises(ArtifactCorrupt):
        MODEL_SPECS[name].load(files, (0.1, 0.5, 0.9))


@pytest.mark.parametrize("folder", sorted(path.name for path in DATA.glob("format_*")))
def test_a_model_of_every_past_format_still_forecasts(folder: str) -> None:
    registry = ModelRegistry(LocalArtifactStore(DATA / folder))
    (model_id,) = registry.ids()

    forecaster = registry.load(registry.card(model_id))
    forecast = forecaster.predict_quantiles(random_walk(300), np.array([299])).intervals((0.8,))

    assert forecast.lower[0, 0, 0] < forecast.median[0, 0] < forecast.upper[0, 0, 0]


def test_without_scikit_learn_training_gradient_boosting_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.specs.find_spec", lambda name: None if name == "sklearn" else object())

    with pytest.raises(TrainingUnavailable, match="scikit-learn is not installed"):
        MODEL_SPECS["gradient_boosting"].fit([], FitSettings(61, 30, 1, 1, 1.0, 0), lambda _: None)


@pytest.mark.parametrize("name", ["return_lstm", "price_lstm", "ratio_lstm"])
def test_without_torch_training_a_network_names_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.specs.find_spec", lambda _: None)

    with pytest.raises(TrainingUnavailable, match="torch is not installed"):
        MODEL_SPECS[name].fit([], FitSettings(20, 30, 1, 1, 1.0, 0), lambda _: None)
