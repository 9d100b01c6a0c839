from datetime import UTC, datetime

import pytest

from bootstrap import bundled_model
from config import Settings
from errors import ModelInUse
from services.catalogue import list_models
from services.storage.registry import CARD, ModelRegistry, model_key
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore


@pytest.fixture
def registry(store: InMemoryArtifactStore, trained: TrainedModel) -> ModelRegistry:
    registry = ModelRegistry(store)
    for model_id, ticker in [("brk-1", "BRK"), ("brk-b-1", "BRK-B"), ("brk-b-2", "BRK.B"), ("walk-1", "WALK")]:
        series = (trained.card.series[0].model_copy(update={"ticker": ticker}),)
        registry.publish(trained.card.model_copy(update={"model_id": model_id, "series": series}), trained.files)
    return registry


def test_pages_follow_each_other_and_end(registry: ModelRegistry) -> None:
    first = list_models(registry, None, limit=3, after=None)
    second = list_models(registry, None, limit=3, after=first.next_after)

    assert [model.id for model in (*first.models, *second.models)] == ["brk-1", "brk-b-1", "brk-b-2", "walk-1"]
    assert second.next_after is None


def test_a_page_that_is_just_full_is_the_last(registry: ModelRegistry) -> None:
    assert list_models(registry, None, limit=4, after=None).next_after is None


@pytest.mark.parametrize(("ticker", "ids"), [("BRK", ["brk-1"]), ("BRK-B", ["brk-b-1"]), ("NOPE", [])])
def test_a_tickers_models_are_its_own_however_similar_the_ids(
    registry: ModelRegistry, ticker: str, ids: list[str]
) -> None:
    page = list_models(registry, ticker, limit=10, after=None)

    assert [model.id for model in page.models] == ids


def test_one_unreadable_card_is_named_and_hides_no_other(registry: ModelRegistry, store: InMemoryArtifactStore) -> None:
    store.put(model_key("brk-b-1", CARD), b"{}")

    page = list_models(registry, None, limit=10, after=None)

    assert [model.id for model in page.models] == ["brk-1", "brk-b-2", "walk-1"]
    assert [(broken.id, broken.code) for broken in page.unreadable] == [("brk-b-1", "artifact_corrupt")]


def bundled_beside(store: InMemoryArtifactStore) -> ModelRegistry:
    return ModelRegistry(store, bundled_model(Settings(_env_file=None)))


def test_the_bundled_model_is_listed_in_its_place_and_marked(
    registry: ModelRegistry, store: InMemoryArtifactStore
) -> None:
    first = list_models(bundled_beside(store), None, limit=4, after=None)
    rest = list_models(bundled_beside(store), None, limit=4, after=first.next_after)

    assert [model.bundled for model in (*first.models, *rest.models)] == [False, False, False, True, False]
    assert [model.id for model in (*first.models, *rest.models)] == sorted(
        [*registry.ids(), "bundled-20210421-00000001"]
    )


@pytest.mark.parametrize(("ticker", "n"), [("^GSPC", 1), ("BRK", 0)])
def test_the_bundled_model_is_of_the_tickers_it_was_made_from(
    store: InMemoryArtifactStore, ticker: str, n: int
) -> None:
    page = list_models(bundled_beside(store), ticker, limit=10, after=None)

    assert len([model for model in page.models if model.bundled]) == n


def test_the_bundled_model_is_listed_after_default_was_moved(
    registry: ModelRegistry, store: InMemoryArtifactStore
) -> None:
    both = bundled_beside(store)
    both.move_alias("default", "walk-1", datetime(2024, 7, 19, tzinfo=UTC))

    assert any(model.bundled for model in list_models(both, None, limit=10, after=None).models)


def test_the_bundled_model_cannot_be_deleted(store: InMemoryArtifactStore) -> None:
    both = bundled_beside(store)

    with pytest.raises(ModelInUse, match="bundled model and cannot be deleted"):
        both.delete("bundled-20210421-00000001")
