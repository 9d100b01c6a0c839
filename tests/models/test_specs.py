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


def test_every_kind_says_what_it_reads_and_whether_it_pools() -> None:
    assert {name: spec.lookback for name, spec in MODEL_SPECS.items() if spec.lookback} == {
        "persistence": 1,
        "drift": 1,
        "rolling_empirical": 251,
        "ewma": 101,
        "gjr_garch": 251,
        "volatility_regression": 61,
        "gradient_boosting": 61,
    }
    assert {name for name, spec in MODEL_SPECS.items() if spec.reads_market} == {"return_lstm", "gradient_boosting"}
    assert {name for name, spec in MODEL_SPECS.items() if not spec.pools} == {"gjr_garch"}


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


@pytest.mark.parametrize("name", ["gjr_garch", "volatility_regression", "gradient_boosting"])
def test_without_scipy_a_kind_that_needs_it_names_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.specs.find_spec", lambda _: None)

    with pytest.raises(TrainingUnavailable, match="scipy is not installed"):
        MODEL_SPECS[name].fit([], FitSettings(61, 30, 1, 1, 1.0, 0), lambda _: None)


def test_without_scikit_learn_training_gradient_boosting_names_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.specs.find_spec", lambda name: None if name == "sklearn" else object())

    with pytest.raises(TrainingUnavailable, match="scikit-learn is not installed"):
        MODEL_SPECS["gradient_boosting"].fit([], FitSettings(61, 30, 1, 1, 1.0, 0), lambda _: None)


@pytest.mark.parametrize("name", ["return_lstm", "price_lstm", "ratio_lstm"])
def test_without_torch_training_a_network_names_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.specs.find_spec", lambda _: None)

    with pytest.raises(TrainingUnavailable, match="torch is not installed"):
        MODEL_SPECS[name].fit([], FitSettings(20, 30, 1, 1, 1.0, 0), lambda _: None)
