"""Moves of aliases and deletions of models at the same moment, and what is left where one dies."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from errors import AliasMoved, AppError, ModelInUse, ModelNotFound
from schemas.alias import Deletion
from services.storage.alias_moves import MAX_PENDING, deletion_key
from services.storage.registry import CARD, ModelRegistry, model_key
from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore, UnreliableStore
from tests.races.machine import small_model, without_threads_and_waiting
from tests.races.steps import Grant, SteppedStore, Writer
from tests.s3_servers import S3Server

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
OLD, NEW = "walk-20240719-0000000a", "walk-20240719-0000000b"
GRANTS: tuple[Grant, ...] = ("go", "die before", "die after")


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return small_model()


def publish(store: ArtifactStore, model: TrainedModel, *model_ids: str) -> None:
    for model_id in model_ids:
        ModelRegistry(store).publish(model.card.model_copy(update={"model_id": model_id}), model.files)


@pytest.fixture
def store(model: TrainedModel) -> InMemoryArtifactStore:
    """Two models; ``default`` points to the old one."""
    store = InMemoryArtifactStore()
    publish(store, model, OLD, NEW)
    ModelRegistry(store).move_alias("default", OLD, NOW)
    return store


@pytest.fixture(params=["local", "moto", "radosgw"])
def real_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "local":
        yield LocalArtifactStore(tmp_path / "artifacts")
        return
    server: S3Server = request.getfixturevalue("radosgw" if request.param == "radosgw" else "moto_endpoint")
    with closing(S3ArtifactStore(server.bucket, server.endpoint_url, prefix=f"moves-{request.param}")) as store:
        yield store


def run(writer: Writer) -> None:
    while not writer.has_ended:
        writer.step()


def assert_no_alias_to_nothing(store: ArtifactStore) -> None:
    for alias in ModelRegistry(store).aliases():
        assert store.exists(model_key(alias.model_id, CARD)), f"{alias.alias} points to the missing {alias.model_id}"


def test_of_moves_at_the_same_moment_each_is_in_the_history(real_store: ArtifactStore, model: TrainedModel) -> None:
    publish(real_store, model, OLD, NEW)
    start = threading.Barrier(4)

    def move(number: int) -> None:
        registry = ModelRegistry(real_store)
        start.wait()
        for turn in range(3):
            registry.move_alias("default", (OLD, NEW)[number % 2], NOW + timedelta(seconds=10 * number + turn))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(4)))

    alias = ModelRegistry(real_store).alias("default")
    assert alias is not None
    listed = [alias.moved_at, *(one.moved_at for one in alias.earlier)]
    assert sorted(listed) == [NOW + timedelta(seconds=10 * number + turn) for number in range(4) for turn in range(3)]
    assert alias.previous_model_id == alias.earlier[0].model_id


@pytest.mark.parametrize("alias", ["default", "ticker/AAPL"])
@pytest.mark.parametrize("grant", GRANTS)
def test_a_deletion_at_any_point_of_a_move_leaves_no_alias_to_nothing(
    model: TrainedModel, alias: str, grant: Grant
) -> None:
    with without_threads_and_waiting():
        for point in count():
            store = InMemoryArtifactStore()
            publish(store, model, OLD, NEW)
            stepped = SteppedStore(store)
            moving = Writer(lambda stepped=stepped: ModelRegistry(stepped).move_alias(alias, NEW, NOW))  # type: ignore[misc]
            for _ in range(point):
                if not moving.has_ended:
                    moving.step()
            if moving.has_ended:
                break
            if grant == "die after":
                moving.step(grant)
            deleting = Writer(lambda stepped=stepped: ModelRegistry(stepped).delete(NEW))  # type: ignore[misc]
            run(deleting)
            assert_no_alias_to_nothing(store)
            if not moving.has_ended:
                moving.step(grant)
            run(moving)
            assert_no_alias_to_nothing(store)
            assert isinstance(moving.error, ModelNotFound | None)
            assert (deleting.error is None) == (NEW not in ModelRegistry(store).ids())
    assert point > 4


@pytest.mark.parametrize("alias", ["default", "ticker/AAPL"])
@pytest.mark.parametrize("grant", GRANTS)
def test_a_move_at_any_point_of_a_deletion_leaves_no_alias_to_nothing(
    model: TrainedModel, alias: str, grant: Grant
) -> None:
    with without_threads_and_waiting():
        for point in count():
            store = InMemoryArtifactStore()
            publish(store, model, OLD, NEW)
            ModelRegistry(store).move_alias("default", OLD, NOW)
            stepped = SteppedStore(store)
            deleting = Writer(lambda stepped=stepped: ModelRegistry(stepped).delete(NEW))  # type: ignore[misc]
            for _ in range(point):
                if not deleting.has_ended:
                    deleting.step()
            if deleting.has_ended:
                break
            moving = Writer(lambda stepped=stepped: ModelRegistry(stepped).move_alias(alias, NEW, NOW))  # type: ignore[misc]
            run(moving)
            assert_no_alias_to_nothing(store)
            deleting.step(grant)
            run(deleting)
            assert_no_alias_to_nothing(store)
            assert isinstance(moving.error, ModelNotFound | None)
            assert isinstance(deleting.error, ModelInUse | None)
            ModelRegistry(store).remove_leftovers(NOW + timedelta(days=30))
            left = {key.split("/")[1] for key in store.list_keys("models/")}
            assert left == set(ModelRegistry(store).ids())
    assert point > 6


def test_a_move_that_waited_while_its_model_was_deleted_is_refused(store: InMemoryArtifactStore) -> None:
    with without_threads_and_waiting():
        stepped = SteppedStore(store)
        moving = Writer(lambda: ModelRegistry(stepped).move_alias("ticker/AAPL", NEW, NOW))
        while not store.list_keys("aliases/ticker/"):
            moving.step()

        ModelRegistry(store).delete(NEW)
        run(moving)

    assert isinstance(moving.error, ModelNotFound)
    assert ModelRegistry(store).alias("ticker/AAPL") is None
    assert [alias.alias for alias in ModelRegistry(store).aliases()] == ["default"]


def test_a_move_may_require_where_the_alias_points_to(store: InMemoryArtifactStore) -> None:
    registry = ModelRegistry(store)

    with pytest.raises(AliasMoved, match=f"points to '{OLD}' now, not to 'other-1'"):
        registry.move_alias("default", NEW, NOW, expected="other-1")

    assert registry.id_of("default") == OLD
    assert registry.move_alias("default", NEW, NOW, expected=OLD).previous_model_id == OLD


def test_moves_that_died_are_forgotten_and_hinder_neither_moves_nor_deletions(store: InMemoryArtifactStore) -> None:
    with without_threads_and_waiting():
        stepped = SteppedStore(store)
        for _ in range(2 * MAX_PENDING):
            dying = Writer(lambda: ModelRegistry(stepped).move_alias("default", NEW, NOW))
            while not dying.has_ended:
                before = store.get("aliases/default.json")
                dying.step()
                if store.get("aliases/default.json") != before and not dying.has_ended:
                    dying.step("die before")
    document = store.get("aliases/default.json")

    ModelRegistry(store).delete(NEW)

    assert document.count(b"token") == MAX_PENDING
    assert ModelRegistry(store).id_of("default") == OLD
    assert b"token" not in store.get("aliases/default.json")


def test_a_deletion_writes_no_alias_that_nothing_is_being_moved_to(model: TrainedModel) -> None:
    store = UnreliableStore()
    publish(store, model, OLD, NEW)
    ModelRegistry(store).move_alias("default", OLD, NOW)
    store.refuses = lambda key: key.startswith("aliases/")

    ModelRegistry(store).delete(NEW)

    assert ModelRegistry(store).ids() == [OLD]


def test_the_document_of_a_moved_alias_is_that_of_earlier_versions(store: InMemoryArtifactStore) -> None:
    ModelRegistry(store).move_alias("default", NEW, NOW)

    assert b"pending" not in store.get("aliases/default.json")


def test_a_deletion_that_died_is_ended_by_the_next_one(store: InMemoryArtifactStore) -> None:
    with without_threads_and_waiting():
        dying = Writer(lambda: ModelRegistry(SteppedStore(store)).delete(NEW))
        while store.exists(model_key(NEW, CARD)):
            dying.step()
        dying.step("die before")
    assert store.list_keys(f"models/{NEW}/") != []

    ModelRegistry(store).delete(NEW)

    assert store.list_keys(f"models/{NEW}/") == []
    assert not store.exists(deletion_key(NEW))
    with pytest.raises(ModelNotFound):
        ModelRegistry(store).delete(NEW)


def test_what_a_crash_left_of_a_deletion_is_removed(store: InMemoryArtifactStore) -> None:
    store.put(deletion_key(NEW), Deletion(token="t", decided=True).model_dump_json().encode())

    removed = ModelRegistry(store).remove_leftovers(NOW)

    assert removed == [NEW]
    assert ModelRegistry(store).ids() == [OLD]
    assert store.list_keys("deletions/") == []


def test_a_deletion_that_is_not_decided_removes_nothing(store: InMemoryArtifactStore) -> None:
    store.put(deletion_key(NEW), Deletion(token="t").model_dump_json().encode())

    assert ModelRegistry(store).remove_leftovers(NOW) == []
    assert ModelRegistry(store).move_alias("default", NEW, NOW).model_id == NEW


@pytest.mark.parametrize(
    ("model_id", "days", "removed"),
    [(NEW, 8, True), (NEW, 7, False), ("imported-by-hand", 3000, False)],
)
def test_files_without_a_card_are_removed_a_week_after_their_training_was_ordered(
    store: InMemoryArtifactStore, model_id: str, days: int, removed: bool
) -> None:
    store.delete(model_key(NEW, CARD))
    store.put(model_key("imported-by-hand", "weights.bin"), b"w")

    found = ModelRegistry(store).remove_leftovers(NOW + timedelta(days=days))

    assert (model_id in found) is removed
    assert bool(store.list_keys(f"models/{model_id}/")) is not removed
    assert ModelRegistry(store).ids() == [OLD]


def test_a_move_that_fails_says_so_as_an_error_of_the_program(store: InMemoryArtifactStore) -> None:
    with pytest.raises(AppError):
        ModelRegistry(store).move_alias("default", "no-such-1", NOW)

    assert store.get("aliases/default.json").count(b"token") == 0
