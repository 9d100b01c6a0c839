"""What every artifact store does, the fake and the real ones."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from errors import ArtifactNotFound
from services.storage.measured import InstrumentedStore
from services.storage.s3 import S3ArtifactStore
from services.storage.store import MAX_KEY_LENGTH, MAX_SEGMENT_LENGTH, ArtifactStore, LocalArtifactStore
from telemetry.prometheus import PrometheusMeter
from tests.fakes import InMemoryArtifactStore
from tests.s3_servers import S3Server

N_RACERS = 16

HOSTILE_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.hidden",
    "a\\b",
    "a b",
    "a\n",
    "a\x00b",
    "é",
    "-rf",
    "x" * (MAX_SEGMENT_LENGTH + 1),
    "/".join(["x" * 99] * 6),
]

METHODS: dict[str, Callable[[ArtifactStore, str], object]] = {
    "get": lambda store, key: store.get(key),
    "put": lambda store, key: store.put(key, b"data"),
    "create": lambda store, key: store.create(key, b"data"),
    "exists": lambda store, key: store.exists(key),
    "delete": lambda store, key: store.delete(key),
}


@pytest.fixture(scope="module")
def moto_store(moto_endpoint: S3Server) -> Iterator[S3ArtifactStore]:
    with closing(S3ArtifactStore(moto_endpoint.bucket, moto_endpoint.endpoint_url, prefix="contract")) as store:
        yield store


@pytest.fixture(scope="module")
def radosgw_store(radosgw: S3Server) -> Iterator[S3ArtifactStore]:
    with closing(S3ArtifactStore(radosgw.bucket, radosgw.endpoint_url, prefix="contract")) as store:
        yield store


@pytest.fixture(params=["memory", "local", "measured", "moto", "radosgw"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArtifactStore]:
    if request.param == "memory":
        yield InMemoryArtifactStore()
    elif request.param == "local":
        yield LocalArtifactStore(tmp_path / "artifacts")
    elif request.param == "measured":
        yield InstrumentedStore(LocalArtifactStore(tmp_path / "artifacts"), PrometheusMeter())
    else:
        s3 = request.getfixturevalue(f"{request.param}_store")
        yield s3
        for key in s3.list_keys(""):
            s3.delete(key)


@pytest.mark.parametrize("data", [b"", b"\x00\xff\r\n\x1a", b"text"], ids=["empty", "binary", "text"])
def test_get_returns_the_bytes_that_were_put(store: ArtifactStore, data: bytes) -> None:
    store.put("models/a/weights.bin", data)

    assert store.get("models/a/weights.bin") == data


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "_a",
        "^BVSP",
        "BRL=X",
        "PETR4.SA/2024-01-02.json",
        "a..b",
        "x" * MAX_SEGMENT_LENGTH,
        "/".join(["x" * 99] * 5),
    ],
)
def test_every_well_formed_key_can_be_stored_found_and_listed(store: ArtifactStore, key: str) -> None:
    assert len(key) <= MAX_KEY_LENGTH

    store.put(key, b"data")

    assert store.get(key) == b"data"
    assert store.exists(key)
    assert store.list_keys(key) == [key]


def test_an_artifact_of_eight_megabytes_comes_back_whole(store: ArtifactStore) -> None:
    data = bytes(range(256)) * (8 * 1024 * 4)

    store.put("weights.safetensors", data)

    assert store.get("weights.safetensors") == data


def test_put_replaces_what_was_there(store: ArtifactStore) -> None:
    store.put("card.json", b"a longer first version")

    store.put("card.json", b"second")

    assert store.get("card.json") == b"second"


def test_get_of_a_missing_key_names_the_key(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound, match=r"models/a/card\.json") as failure:
        store.get("models/a/card.json")

    assert failure.value.__cause__ is None


def test_create_stores_where_nothing_was(store: ArtifactStore) -> None:
    created = store.create("jobs/a/claim", b"mine")

    assert created
    assert store.get("jobs/a/claim") == b"mine"


@pytest.mark.parametrize("data", [b"mine", b"yours"], ids=["same bytes", "other bytes"])
def test_create_leaves_what_was_there(store: ArtifactStore, data: bytes) -> None:
    store.create("jobs/a/claim", b"mine")

    created_again = store.create("jobs/a/claim", data)

    assert not created_again
    assert store.get("jobs/a/claim") == b"mine"


def test_create_leaves_what_was_put(store: ArtifactStore) -> None:
    store.put("jobs/a/claim", b"mine")

    assert not store.create("jobs/a/claim", b"yours")


def test_create_succeeds_again_after_a_delete(store: ArtifactStore) -> None:
    store.create("jobs/a/claim", b"mine")
    store.delete("jobs/a/claim")

    assert store.create("jobs/a/claim", b"yours")


def test_of_many_racing_creates_exactly_one_wins_and_its_bytes_stay(store: ArtifactStore) -> None:
    start = threading.Barrier(N_RACERS)

    def race(racer: int) -> bool:
        start.wait()
        return store.create("jobs/a/claim", str(racer).encode())

    with ThreadPoolExecutor(N_RACERS) as pool:
        won = list(pool.map(race, range(N_RACERS)))

    assert won.count(True) == 1
    assert store.get("jobs/a/claim") == str(won.index(True)).encode()


def test_a_reader_sees_the_old_or_the_new_bytes_whole(store: ArtifactStore) -> None:
    versions = [bytes([version]) * 300_000 for version in range(10)]
    store.put("card.json", versions[0])
    done = threading.Event()

    def read_until_done() -> set[bytes]:
        seen = {store.get("card.json")}
        while not done.is_set():
            seen.add(store.get("card.json"))
        return seen

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_until_done)
        for version in versions:
            store.put("card.json", version)
        done.set()
        seen = reading.result()

    assert seen <= set(versions)


def test_exists_tells_what_is_stored_from_what_is_not(store: ArtifactStore) -> None:
    store.put("models/a/card.json", b"{}")

    assert store.exists("models/a/card.json")
    assert not store.exists("models/a/card")
    assert not store.exists("models/b/card.json")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["b", "m/a-b", "m/a/x", "m/a/y/z", "m/ab/x", "m/b"]),
        ("m", ["m/a-b", "m/a/x", "m/a/y/z", "m/ab/x", "m/b"]),
        ("m/", ["m/a-b", "m/a/x", "m/a/y/z", "m/ab/x", "m/b"]),
        ("m/a", ["m/a-b", "m/a/x", "m/a/y/z", "m/ab/x"]),
        ("m/a/", ["m/a/x", "m/a/y/z"]),
        ("m/a/x", ["m/a/x"]),
        ("m/a/x/", []),
        ("m/abc", []),
        ("elsewhere/", []),
    ],
)
def test_list_finds_every_key_that_starts_with_the_prefix_in_order(
    store: ArtifactStore, prefix: str, expected: list[str]
) -> None:
    for key in ["m/b", "m/ab/x", "b", "m/a/y/z", "m/a/x", "m/a-b"]:
        store.put(key, b"")

    assert store.list_keys(prefix) == expected


def test_an_empty_store_lists_nothing(store: ArtifactStore) -> None:
    assert store.list_keys("") == []


def test_delete_forgets_the_artifact_alone(store: ArtifactStore) -> None:
    store.put("models/a/card.json", b"{}")
    store.put("models/a/model.onnx", b"onnx")

    store.delete("models/a/card.json")

    assert not store.exists("models/a/card.json")
    assert store.list_keys("") == ["models/a/model.onnx"]


def test_deleting_a_missing_key_is_not_a_failure(store: ArtifactStore) -> None:
    store.delete("models/a/card.json")

    assert store.list_keys("") == []


@pytest.mark.parametrize(("stored", "other"), [("models/a/card.json", "models/a"), ("models/a", "models/a/card.json")])
def test_neither_the_folder_of_an_artifact_nor_a_key_below_it_is_an_artifact(
    store: ArtifactStore, stored: str, other: str
) -> None:
    store.put(stored, b"{}")

    store.delete(other)

    assert not store.exists(other)
    assert store.exists(stored)
    with pytest.raises(ArtifactNotFound):
        store.get(other)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=lambda key: repr(key)[:24])
def test_a_malformed_key_is_a_bug(store: ArtifactStore, method: str, key: str) -> None:
    with pytest.raises(ValueError, match="not an artifact key"):
        METHODS[method](store, key)


@pytest.mark.parametrize("prefix", ["/", "..", "../", "a//", "a/../b", ".", "a b", "a\x00"])
def test_a_prefix_that_no_key_can_start_with_is_a_bug(store: ArtifactStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="not the beginning of an artifact key"):
        store.list_keys(prefix)
