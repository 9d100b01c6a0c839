"""The bundled model: its card, and its files."""

import shutil
from pathlib import Path

import pytest

from config import BUNDLED
from errors import ArtifactCorrupt, ArtifactNotFound, ModelNotFound
from models.fitting import NETWORK
from services.storage.bundled import BundledModel
from services.storage.registry import CALIBRATION, CARD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (CARD, CALIBRATION):
        shutil.copyfile(BUNDLED / name, tmp_path / name)
    return tmp_path


def test_the_network_may_lie_elsewhere_than_the_card_and_the_other_files(folder: Path, tmp_path: Path) -> None:
    network = tmp_path / "elsewhere.onnx"
    network.write_bytes(b"network")
    model = BundledModel(network, folder / CARD)

    assert model.read(NETWORK) == b"network"
    assert model.read(CALIBRATION) == (BUNDLED / CALIBRATION).read_bytes()
    with pytest.raises(ArtifactNotFound):
        model.read("notes.txt")


def test_the_card_is_read_once(folder: Path) -> None:
    model = BundledModel(folder / NETWORK, folder / CARD)
    card = model.card
    (folder / CARD).unlink()

    assert model.card is card


def test_a_missing_card_is_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="the default model is missing"):
        _ = BundledModel(tmp_path / NETWORK, tmp_path / CARD).card


def test_a_folder_in_the_place_of_a_file_is_corrupt(tmp_path: Path) -> None:
    model = BundledModel(tmp_path, tmp_path)

    with pytest.raises(ArtifactCorrupt, match="the card of the default model cannot be read"):
        _ = model.card
    with pytest.raises(ArtifactCorrupt, match="cannot be read"):
        model.read(NETWORK)


def test_the_lookback_must_be_the_one_that_is_demanded(folder: Path) -> None:
    lookback = BundledModel(folder / NETWORK, folder / CARD).card.lookback

    assert BundledModel(folder / NETWORK, folder / CARD, lookback).card.lookback == lookback
    for other in (lookback - 1, lookback + 1):
        with pytest.raises(ArtifactCorrupt, match=f"LOOK_BACK is {other} sessions"):
            _ = BundledModel(folder / NETWORK, folder / CARD, other).card
