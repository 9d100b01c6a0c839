"""Models by id: whole, or an error."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from errors import ArtifactCorrupt, ModelInUse, ModelNotFound, StoreUnavailable
from models.conformal import CalibratedForecaster
from models.fitting import NETWORK, WEIGHTS
from schemas.card import ModelCard
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, model_key
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore, random_walk

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
FILES = (WEIGHTS, NETWORK, CALIBRATION)


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


@pytest.fixture
def published(store: InMemoryArtifactStore, trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(store)
    registry.publish(trained.card, trained.files)
    return registry


def publish_copies(store: InMemoryArtifactStore, trained: TrainedModel, *model_ids: str) -> ModelRegistry:
    registry = ModelRegistry(store)
    for model_id in model_ids:
        registry.publish(trained.card.model_copy(update={"model_id": model_id}), trained.files)
    return registry


def flip_a_byte(store: InMemoryArtifactStore, key: str, at: int) -> None:
    content = bytearray(store.get(key))
    content[at] ^= 1
    store.put(key, bytes(content))


def test_a_published_model_is_listed_and_its_card_comes_back_equal(
    published: ModelRegistry, trained: TrainedModel
) -> None:
    assert published.ids() == [trained.card.model_id]
    assert published.card(trained.card.model_id) == trained.card


def test_a_loaded_model_forecasts(published: ModelRegistry, trained: TrainedModel) -> None:
    forecaster = published.load(trained.card)

    forecast = forecaster.predict_quantiles(random_walk(100), np.array([99]))

    assert forecast.prices.shape[:2] == (1, trained.card.horizon)
    assert set(trained.card.quantile_levels) < set(forecast.quantile_levels)


def test_a_model_is_read_once_and_then_kept(
    published: ModelRegistry,
    trained: TrainedModel,
    store: InMemoryArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.storage.ttl_cache.TTL_S", 0.0)
    first = published.load(trained.card)
    for name in FILES:
        store.delete(model_key(trained.card.model_id, name))

    assert published.load(trained.card) is first


def test_cards_that_differ_share_no_forecaster(published: ModelRegistry, trained: TrainedModel) -> None:
    adaptive = trained.card.model_copy(update={"calibration": "adaptive"})
    static = trained.card.model_copy(update={"calibration": "static"})

    following, fixed = published.load(adaptive), published.load(static)

    assert isinstance(fixed, CalibratedForecaster)
    assert not isinstance(following, CalibratedForecaster)
    assert published.load(adaptive) is following
    assert published.load(static) is fixed


def test_equal_cards_share_a_forecaster(published: ModelRegistry, trained: TrainedModel) -> None:
    copy = ModelCard.model_validate_json(trained.card.model_dump_json())

    assert published.load(copy) is published.load(trained.card)
    assert published.load_seconds(copy) == published.load_seconds(trained.card)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_flipped_byte_in_a_file_is_an_error_and_never_a_forecast(
    published: ModelRegistry, trained: TrainedModel, store: InMemoryArtifactStore, name: str, at: int
) -> None:
    flip_a_byte(store, model_key(trained.card.model_id, name), at)

    with pytest.raises(ArtifactCorrupt, match=name):
        published.load(trained.card)


@pytest.mark.parametrize("name", FILES)
def test_a_model_without_one_of_its_files_is_not_found(
    published: ModelRegistry, trained: TrainedModel, store: InMemoryArtifactStore, name: str
) -> None:
    store.delete(model_key(trained.card.model_id, name))

    with pytest.raises(ModelNotFound, match=name):
        published.load(trained.card)


def test_files_without_a_card_are_not_a_model(
    published: ModelRegistry, trained: TrainedModel, store: InMemoryArtifactStore
) -> None:
    store.delete(model_key(trained.card.model_id, CARD))

    assert published.ids() == []
    with pytest.raises(ModelNotFound):
        published.card(trained.card.model_id)


def test_a_store_that_fails_half_way_leaves_nothing_that_is_listed(trained: TrainedModel) -> None:
    class FullAfterTheFirst(InMemoryArtifactStore):
        def put(self, key: str, data: bytes) -> None:
            if not key.endswith(WEIGHTS):
                raise StoreUnavailable("no space left")
            super().put(key, data)

    registry = ModelRegistry(FullAfterTheFirst())

    with pytest.raises(StoreUnavailable):
        registry.publish(trained.card, trained.files)

    assert registry.ids() == []


def test_a_deleted_model_is_gone_with_all_its_files(
    published: ModelRegistry, trained: TrainedModel, store: InMemoryArtifactStore
) -> None:
    published.delete(trained.card.model_id)

    assert store.list_keys("") == []
    with pytest.raises(ModelNotFound):
        published.delete(trained.card.model_id)


def test_deleting_a_model_spares_one_whose_id_starts_the_same(
    store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    registry = publish_copies(store, trained, "a", "a-b")

    registry.delete("a")

    assert registry.ids() == ["a-b"]


def test_an_alias_can_be_moved_and_lists_every_move_with_its_evidence(
    store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    registry = publish_copies(store, trained, "walk-1", "walk-2")
    registry.move_alias("champion", "walk-1", NOW)
    registry.move_alias("champion", "walk-2", NOW, "contests/champion/a.json")

    undone = registry.move_alias("champion", "walk-1", NOW)

    earlier = [(move.model_id, move.evidence) for move in undone.earlier]
    assert earlier == [("walk-2", "contests/champion/a.json"), ("walk-1", None)]
    assert undone.previous_model_id == "walk-2"
    assert registry.card("champion").model_id == "walk-1"
    assert ModelRegistry(store).aliases() == (undone,)


def test_an_alias_lists_a_bounded_number_of_moves(
    published: ModelRegistry, trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.registry.MAX_EARLIER", 3)

    moved = [published.move_alias("champion", trained.card.model_id, NOW) for _ in range(6)][-1]

    assert len(moved.earlier) == 3


def test_an_alias_of_an_earlier_version_is_read_and_its_last_move_kept(
    published: ModelRegistry, store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    then = {"alias": "champion", "model_id": "old-1", "previous_model_id": None, "moved_at": NOW.isoformat()}
    store.put("aliases/champion.json", json.dumps(then).encode())

    moved = published.move_alias("champion", trained.card.model_id, NOW)

    assert [move.model_id for move in moved.earlier] == ["old-1"]


def test_an_alias_moved_to_another_alias_points_to_its_model(published: ModelRegistry, trained: TrainedModel) -> None:
    published.move_alias("champion", trained.card.model_id, NOW)

    assert published.move_alias("default", "champion", NOW).model_id == trained.card.model_id


def test_an_alias_cannot_point_to_a_missing_model(published: ModelRegistry) -> None:
    with pytest.raises(ModelNotFound):
        published.move_alias("champion", "no-such-1", NOW)


def test_a_model_that_an_alias_points_to_is_not_deleted(published: ModelRegistry, trained: TrainedModel) -> None:
    published.move_alias("champion", trained.card.model_id, NOW)

    with pytest.raises(ModelInUse, match="in use by alias champion"):
        published.delete(trained.card.model_id)

    assert published.ids() == [trained.card.model_id]


def test_an_unreadable_alias_is_corrupt(published: ModelRegistry, store: InMemoryArtifactStore) -> None:
    store.put("aliases/champion.json", b"{")

    with pytest.raises(ArtifactCorrupt, match="champion"):
        published.card("champion")


def test_a_card_under_another_id_is_corrupt(
    published: ModelRegistry, store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    store.put(model_key("copy-1", CARD), store.get(model_key(trained.card.model_id, CARD)))

    with pytest.raises(ArtifactCorrupt, match=trained.card.model_id):
        published.card("copy-1")


def test_an_unreadable_alias_blocks_no_other_and_is_repaired_by_moving_it(
    published: ModelRegistry, store: InMemoryArtifactStore, trained: TrainedModel
) -> None:
    store.put("aliases/champion.json", b"{")

    assert published.aliases() == ()
    published.move_alias("champion", trained.card.model_id, NOW)

    assert published.card("champion").model_id == trained.card.model_id
