"""The tool that makes the bundled model, on a tiny universe."""

from pathlib import Path

import pytest

from schemas.card import ModelCard
from services.storage.registry import CARD
from services.training.universe import Universe
from tests.fakes import walk_history, write_prices
from tools.default_model import train_bundled, write

pytestmark = pytest.mark.slow


@pytest.fixture
def universe(tmp_path: Path) -> Path:
    folder = tmp_path / "prices"
    folder.mkdir()
    for seed, ticker in enumerate(["AAA", "BBB", "^GSPC"]):
        write_prices(folder, walk_history(ticker, n_sessions=800, seed=seed))
    return folder


def made(universe: Path, into: Path) -> dict[str, bytes]:
    """The files of one run of the tool."""
    write(train_bundled(Universe.in_folder(universe), into), (), into)
    return {path.name: path.read_bytes() for path in into.iterdir()}


def test_the_same_prices_give_the_same_bytes(universe: Path, tmp_path: Path) -> None:
    first = made(universe, tmp_path / "first")
    copied = tmp_path / "elsewhere"
    universe.rename(copied)  # no path may be in the files

    again = made(copied, tmp_path / "again")

    assert first == again
    card = ModelCard.model_validate_json(first[CARD])
    assert set(first) == {CARD, *card.files}
    assert card.created_at.date() == card.last_session  # no clock
