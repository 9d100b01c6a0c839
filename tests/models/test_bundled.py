"""The bundled model: present, whole, small, and measured on sessions after those it was made with."""

from pathlib import Path

import numpy as np
import pytest

from bootstrap import bundled_model
from config import BUNDLED, Settings
from errors import ArtifactCorrupt, ModelNotFound
from models.base import CLOSE
from services.storage.registry import DEFAULT, ModelRegistry
from tests.fakes import InMemoryArtifactStore, random_walk


def registry(**settings: object) -> ModelRegistry:
    chosen = Settings.model_validate(settings)
    return ModelRegistry(InMemoryArtifactStore(), bundled_model(chosen))


def test_it_answers_as_default_and_under_its_own_id() -> None:
    card = registry().card(DEFAULT)

    assert registry().card(card.model_id) == card


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 2_000_000
    assert (BUNDLED / "metadata.json").stat().st_size < 270_000


def test_its_card_names_its_universe_and_shows_sessions_after_it() -> None:
    card = registry().card(DEFAULT)

    assert card.universe is not None
    assert card.reads_market
    assert len(card.tickers) > 200
    assert card.held_out
    assert all(one.first_origin > card.last_session for one in card.held_out)
    assert {len(one.test) for one in card.held_out} == {len(card.test)} == {card.horizon}
    assert np.mean([one.crps_skill for one in card.held_out]) >= 0.015


@pytest.mark.parametrize("closes_only", [False, True])
def test_it_forecasts_from_sixty_sessions_or_sixty_closes(closes_only: bool) -> None:
    models = registry()
    window = random_walk(60)
    if closes_only:
        window[:, [0, 1, 2, 4]] = np.nan

    forecast = models.load(models.card(DEFAULT)).predict_quantiles(window, np.array([59])).intervals((0.8,))

    assert forecast.lower[0, 0, 0] < window[-1, CLOSE] < forecast.upper[0, 0, 0]


def test_a_look_back_that_contradicts_the_card_is_refused() -> None:
    with pytest.raises(ArtifactCorrupt, match="LOOK_BACK is 90 sessions, but the default model reads 60"):
        registry(look_back=90).card(DEFAULT)


def test_the_settings_of_legacy_contract_v2_name_other_paths(tmp_path: Path) -> None:
    for file in BUNDLED.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.onnx").rename(tmp_path / "elsewhere.onnx")

    models = registry(model_path=tmp_path / "elsewhere.onnx", metadata_path=tmp_path / "metadata.json", look_back=60)

    assert models.load(models.card(DEFAULT)).lookback == 60


def test_a_missing_default_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="default"):
        registry(metadata_path=tmp_path / "metadata.json").card(DEFAULT)


def test_paths_that_are_folders_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        registry(metadata_path=tmp_path).card(DEFAULT)

    models = registry(model_path=tmp_path)
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        models.load(models.card(DEFAULT))


def test_an_unreadable_default_model_hides_no_stored_one(tmp_path: Path) -> None:
    models = registry(look_back=90)

    with pytest.raises(ModelNotFound):
        models.card("no-such-1")
