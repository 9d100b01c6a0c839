"""Models for every ticker, trained on a folder of prices."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from errors import UniverseNotFound
from models.fitting import Epoch
from schemas.train import TrainRequest
from services.prices.csv import source
from services.prices.series import RawBars
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel, train_model
from services.training.universe import Universe, Universes
from tests.fakes import FakePriceSource, InMemoryArtifactStore, walk_history, write_prices

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("universes") / "walks"
    folder.mkdir()
    for seed, ticker in enumerate(["AAA", "BBB", "^GSPC", "^VIX"]):
        write_prices(folder, walk_history(ticker, n_sessions=450, seed=seed))
    write_prices(folder, walk_history("YOUNG", n_sessions=100, seed=9))
    return folder


def train(universe: Universe, on_epoch: Callable[[Epoch], None] = lambda _: None) -> TrainedModel:
    request = TrainRequest(universe=universe.name, sequence_length=20, epochs=1)
    registry = ModelRegistry(InMemoryArtifactStore())
    nowhere = FakePriceSource()  # all prices come from the universe
    return train_model(request, nowhere, registry, "walks-20240719-1a2b3c4d", NOW, on_epoch, universe=universe)


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    return train(Universe.in_folder(folder))


def test_a_model_of_a_universe_names_its_data_and_leaves_out_what_is_too_short(model: TrainedModel) -> None:
    card = model.card
    assert card.universe == "walks"
    assert card.tickers == ("AAA", "BBB", "^GSPC")  # implied volatility is no price, and YOUNG too short
    assert card.reads_market
    assert all(len(one.data.sha256) == 64 for one in card.series)
    assert {one.step for one in card.test} == set(range(1, 31))
    assert card.series[0].test == ()  # of all tickers together
    assert max(card.n_calibration) <= 500


def test_the_same_universe_gives_the_same_bytes(folder: Path, model: TrainedModel) -> None:
    assert train(Universe.in_folder(folder)).files == model.files


def test_no_test_session_of_one_ticker_is_seen_by_another(model: TrainedModel) -> None:
    blocks = [series.split for series in model.card.series]
    first_test = min(split.test.first_origin for split in blocks if split.test)
    assert all(split.calibration.last_origin < first_test for split in blocks if split.calibration)


def test_an_index_is_read_once_for_all_tickers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    read_file = source._read_file

    def recorded(folder: Path, ticker: str, parse: Callable[[Iterable[str], str], RawBars]) -> RawBars:
        read.append(ticker)
        return read_file(folder, ticker, parse)

    monkeypatch.setattr(source, "_read_file", recorded)
    universe = Universe.in_folder(folder)

    markets = [universe.prices.history(ticker, NOW).market for ticker in ("AAA", "BBB", "^GSPC")]

    assert None not in markets
    assert sorted(read) == ["AAA", "BBB", "^GSPC", "^VIX"]


@pytest.mark.parametrize("prepare", [lambda folder: None, lambda folder: folder.mkdir()])
def test_a_folder_without_prices_is_no_universe(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    prepare(tmp_path / "empty")

    with pytest.raises(UniverseNotFound, match="no universe 'empty'"):
        Universe.in_folder(tmp_path / "empty")


def test_fits_of_a_universe_report_their_epochs(folder: Path) -> None:
    epochs: list[Epoch] = []

    train(Universe.in_folder(folder), epochs.append)

    assert [one.number for one in epochs] == [1]
    assert np.isfinite(epochs[0].validation_loss)


def test_a_card_of_a_universe_does_not_warn_of_each_ticker(model: TrainedModel) -> None:
    assert model.card.warnings == ()


def test_a_universe_that_is_a_link_out_of_the_folder_of_universes_is_none(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "universes").mkdir()
    (tmp_path / "universes" / "linked").symlink_to(folder, target_is_directory=True)
    universes = Universes(tmp_path / "universes")

    assert universes.names() == ()
    with pytest.raises(UniverseNotFound, match="leads out"):
        universes.get("linked")


def test_a_folder_of_universes_may_itself_be_a_link(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "link").symlink_to(folder.parent, target_is_directory=True)

    assert Universes(tmp_path / "link").get(folder.name).tickers
