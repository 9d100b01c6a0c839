"""Pages of stored models."""

import pytest

from services.catalogue import list_models, slug
from services.storage.registry import CARD, ModelRegistry, model_key
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


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


def test_different_tickers_may_share_a_slug() -> None:
    assert slug("BRK-B") == slug("BRK.B")
