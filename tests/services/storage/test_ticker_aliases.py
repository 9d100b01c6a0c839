"""The model of one ticker: which one answers, what asking costs, and what happens where it cannot be read."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config import BUNDLED
from errors import ModelInUse, ModelNotFound, StoreUnavailable
from models.fitting import NETWORK
from services.storage import ttl_cache
from services.storage.bundled import BundledModel
from services.storage.registry import CARD, ModelRegistry, ServedModel, model_key, ticker_alias
from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore, UnreliableStore
from tests.s3_servers import S3Server

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
APPLE = "ticker/AAPL"
BUNDLED_MODEL = BundledModel(BUNDLED / NETWORK, BUNDLED / CARD)
TICKERS = ["AAPL", "^GSPC", "PETR4.SA", "M&M.NS", "BRK-B", "EURUSD=X", "M_M.NS"]


def publish(store: ArtifactStore, trained: TrainedModel, *model_ids: str) -> None:
    for model_id in model_ids:
        ModelRegistry(store).publish(trained.card.model_copy(update={"model_id": model_id}), trained.files)


def filled(store: ArtifactStore, trained: TrainedModel) -> None:
    """Three models: one for every ticker, one for AAPL, and a spare one."""
    publish(store, trained, "all-1", "apple-1", "spare-1")
    registry = ModelRegistry(store)
    registry.move_alias("default", "all-1", NOW)
    registry.move_alias(APPLE, "apple-1", NOW)


@pytest.fixture
def store(trained: TrainedModel) -> UnreliableStore:
    store = UnreliableStore()
    filled(store, trained)
    return store


@pytest.fixture(params=["local", "moto"])
def real_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "local":
        yield LocalArtifactStore(tmp_path)
        return
    server: S3Server = request.getfixturevalue("moto_endpoint")
    with closing(S3ArtifactStore(server.bucket, server.endpoint_url, prefix=tmp_path.name.replace("[", "-"))) as store:
        yield store


def answering(registry: ModelRegistry, ticker: str = "AAPL") -> tuple[str, str | None, tuple[str, ...]]:
    served = registry.serve(ticker_alias(ticker))
    return served.card.model_id, served.alias, served.warnings


def test_a_ticker_is_answered_by_its_own_model_and_all_others_by_the_default(
    real_store: ArtifactStore, trained: TrainedModel
) -> None:
    filled(real_store, trained)

    registry = ModelRegistry(real_store)

    assert answering(registry) == ("apple-1", APPLE, ())
    assert answering(registry, "MSFT") == ("all-1", "default", ())
    assert registry.card("ticker/MSFT").model_id == registry.id_of("ticker/MSFT") == "all-1"


def test_every_ticker_has_an_alias_of_its_own_that_is_listed(real_store: ArtifactStore, trained: TrainedModel) -> None:
    publish(real_store, trained, "all-1")
    registry = ModelRegistry(real_store)
    for ticker in TICKERS:
        registry.move_alias(ticker_alias(ticker), "all-1", NOW)
    registry.move_alias("ticker", "all-1", NOW)  # a plain name, and not the folder of the others

    listed = [alias.alias for alias in ModelRegistry(real_store).aliases()]

    assert listed == ["ticker", *sorted(map(ticker_alias, TICKERS))]
    assert all(ModelRegistry(real_store).alias(ticker_alias(ticker)) for ticker in TICKERS)
    assert "aliases/ticker/M^M.NS.json" in real_store.list_keys("aliases/ticker/")


def test_a_move_is_noticed_at_once_and_names_the_model_that_answered_before(store: UnreliableStore) -> None:
    registry = ModelRegistry(store)
    answering(registry, "MSFT")

    moved = registry.move_alias("ticker/MSFT", "spare-1", NOW)

    assert moved.previous_model_id == "all-1"
    assert answering(registry, "MSFT") == ("spare-1", "ticker/MSFT", ())
    registry.move_alias("default", "spare-1", NOW)
    assert answering(registry, "IBM")[0] == "spare-1"


def test_a_model_of_a_ticker_is_in_use(store: UnreliableStore) -> None:
    with pytest.raises(ModelInUse, match=APPLE):
        ModelRegistry(store).delete("apple-1")


@pytest.mark.parametrize("name", ["ticker/", "ticker/aapl", "ticker/A B", "ticker/../x", "ticker/A/B", "ticker/A\n"])
def test_a_name_that_is_no_ticker_is_no_alias(store: UnreliableStore, name: str) -> None:
    registry = ModelRegistry(store)

    assert registry.alias(name) is None
    with pytest.raises(ModelNotFound):
        registry.card(name)


@pytest.fixture
def _lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ttl_cache, "TTL_S", 60.0)


@pytest.mark.usefixtures("_lasting")
def test_the_model_before_a_move_is_that_of_the_store_and_not_one_that_is_cached(store: UnreliableStore) -> None:
    registry = ModelRegistry(store)
    answering(registry, "MSFT")
    ModelRegistry(store).move_alias("default", "spare-1", NOW)

    assert registry.move_alias("ticker/MSFT", "apple-1", NOW).previous_model_id == "spare-1"


@pytest.mark.usefixtures("_lasting")
def test_five_hundred_tickers_without_a_model_of_their_own_cost_one_list(
    store: UnreliableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, list_keys = ModelRegistry(store), store.list_keys

    def slowly(prefix: str) -> list[str]:  # so that each thread would list before one has
        time.sleep(0.05)
        return list_keys(prefix)

    monkeypatch.setattr(store, "list_keys", slowly)
    names = [ticker_alias(f"T{number}") for number in range(500)]
    registry.serve("default")
    store.calls.clear()

    first = registry.serve_each(names)
    calls = list(store.calls)
    again = registry.serve_each(names)

    assert calls == ["list"]
    assert store.calls == calls
    assert {id(one) for one in (*first.values(), *again.values())} == {id(registry.serve("default"))}


@pytest.mark.usefixtures("_lasting")
@pytest.mark.parametrize("damage", [lambda store: None, lambda store: store.delete(model_key("apple-1", CARD))])
def test_a_warm_request_reads_nothing_whether_or_not_the_model_can_be_read(
    store: UnreliableStore, damage: Callable[[UnreliableStore], None]
) -> None:
    damage(store)
    registry = ModelRegistry(store)
    first = answering(registry)
    store.calls.clear()

    assert answering(registry) == first
    assert store.calls == []


def test_one_name_among_many_reads_no_more_than_alone(store: UnreliableStore) -> None:
    store.calls.clear()
    ModelRegistry(store).serve(APPLE)
    alone = list(store.calls)
    store.calls.clear()

    found = ModelRegistry(store).serve_each([APPLE, APPLE])

    assert list(found) == [APPLE]
    assert store.calls == alone


def break_file(store: InMemoryArtifactStore) -> None:
    store.put(model_key("apple-1", NETWORK), b"no network")


def from_the_future(store: InMemoryArtifactStore) -> None:
    key = model_key("apple-1", CARD)
    store.put(key, store.get(key).replace(b'"format_version":2', b'"format_version":99'))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda store: store.delete(model_key("apple-1", CARD)), "no model 'apple-1'"),
        (lambda store: store.delete(model_key("apple-1", NETWORK)), f"model 'apple-1' has no file {NETWORK}"),
        (break_file, f"{NETWORK} of model 'apple-1' does not match the checksum in its card"),
        (from_the_future, "model 'apple-1' has format version 99"),
        (lambda store: store.put("aliases/ticker/AAPL.json", b"{"), "aliases/ticker/AAPL.json is not readable"),
    ],
)
def test_where_a_tickers_model_cannot_be_read_the_default_answers_with_a_warning_that_names_the_alias(
    store: UnreliableStore, damage: Callable[[UnreliableStore], None], reason: str
) -> None:
    damage(store)

    model_id, alias, (warning,) = answering(ModelRegistry(store))

    assert (model_id, alias) == ("all-1", "default")
    assert warning.startswith(f"the model of {APPLE!r} cannot be used, 'default' answers: {reason}")


def test_a_broken_default_is_an_error_and_a_ticker_with_its_own_model_is_answered(store: UnreliableStore) -> None:
    store.delete(model_key("all-1", CARD))
    registry = ModelRegistry(store)

    found = registry.serve_each([APPLE, "ticker/MSFT"])

    assert isinstance(found[APPLE], ServedModel)
    assert isinstance(found["ticker/MSFT"], ModelNotFound)


def test_in_an_outage_a_known_model_of_a_ticker_still_answers(store: UnreliableStore) -> None:
    registry = ModelRegistry(store)
    answering(registry)
    store.down = True

    assert answering(registry) == ("apple-1", APPLE, ())


@pytest.mark.usefixtures("_lasting")
def test_in_an_outage_the_default_answers_for_an_unknown_alias_with_a_warning(store: UnreliableStore) -> None:
    registry = ModelRegistry(store)
    registry.serve("default")
    store.down = True
    store.calls.clear()

    for _ in range(3):
        assert answering(registry) == (
            "all-1",
            "default",
            (f"storage unavailable; serving 'all-1', which may not be the current model of {APPLE!r}",),
        )
    registry.serve_each([ticker_alias(f"T{number}") for number in range(500)])

    assert store.calls == ["list"]  # the pause after an outage is of all tickers


def test_in_an_outage_an_alias_that_is_known_to_exist_but_was_never_read_is_warned_of(store: UnreliableStore) -> None:
    registry = ModelRegistry(store)
    answering(registry, "MSFT")  # lists the aliases
    store.down = True

    assert answering(registry)[2] != ()
    assert answering(registry, "IBM")[2] == ()  # known to have none


def test_without_any_model_in_an_outage_the_error_is_the_outage(store: UnreliableStore) -> None:
    store.down = True

    with pytest.raises(StoreUnavailable):
        ModelRegistry(store).serve(APPLE)


@pytest.mark.parametrize("name", ["champion", "apple", "zebra", "ticker/aapl"])
def test_only_the_default_and_tickers_point_to_the_bundled_model_before_they_are_moved(
    store: UnreliableStore, name: str
) -> None:
    registry = ModelRegistry(InMemoryArtifactStore(), BUNDLED_MODEL)

    assert registry.id_of("default") == registry.id_of("ticker/MSFT") == BUNDLED_MODEL.card.model_id
    assert registry.card("default") == registry.card(BUNDLED_MODEL.card.model_id) == BUNDLED_MODEL.card
    assert registry.id_of(name) == name
    with pytest.raises(ModelNotFound):
        registry.card(name)
    assert ModelRegistry(store, BUNDLED_MODEL).card("default").model_id == "all-1"


def test_a_stored_model_beside_the_bundled_one_has_its_own_files(store: UnreliableStore, trained: TrainedModel) -> None:
    publish(store, trained, "a-1", "z-1")
    registry = ModelRegistry(store, BUNDLED_MODEL)

    for model_id in ("a-1", "z-1"):
        card = registry.card(model_id)
        assert registry.file(card, NETWORK) == trained.files[NETWORK]
        assert registry.load(card).horizon == trained.card.horizon
    bundled = registry.card(BUNDLED_MODEL.card.model_id)
    assert registry.file(bundled, NETWORK) == (BUNDLED / NETWORK).read_bytes()
    with pytest.raises(ModelInUse, match="is the bundled model"):
        registry.delete(bundled.model_id)


@pytest.mark.parametrize("damaged", [False, True])
def test_without_a_readable_bundled_model_stored_ones_are_served(
    store: UnreliableStore, tmp_path: Path, damaged: bool
) -> None:
    if damaged:
        (tmp_path / CARD).write_bytes(b"{")
    registry = ModelRegistry(store, BundledModel(tmp_path / NETWORK, tmp_path / CARD))

    assert registry.bundled is None
    assert answering(registry, "MSFT") == ("all-1", "default", ())
    with pytest.raises(ModelNotFound):
        registry.delete("no-such-1")


def test_in_an_outage_before_the_default_was_ever_read_the_bundled_model_answers_with_a_warning(
    store: UnreliableStore,
) -> None:
    store.down = True

    served = ModelRegistry(store, BUNDLED_MODEL).serve("default")

    assert (served.alias, len(served.warnings)) == ("default", 1)
    assert served.warnings[0].startswith(f"storage unavailable; serving bundled model {served.card.model_id!r}")
