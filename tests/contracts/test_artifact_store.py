"""What every artifact store does, the fake and the real ones."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from errors import ArtifactNotFound
from services.storage.documents import read_updated
from services.storage.measured import InstrumentedStore
from services.storage.s3 import S3ArtifactStore
from services.storage.store import MAX_KEY_LENGTH, MAX_SEGMENT_LENGTH, ArtifactStore, LocalArtifactStore
from telemetry.prometheus import PrometheusMeter
from tests.contracts.changing import KEY, N_CHANGES, Names, append, open_store
from tests.fakes import InMemoryArtifactStore
from tests.processes import dies_with_us
from tests.s3_servers import S3Server, ignore_if_match

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
    "read_versioned": lambda store, key: store.read_versioned(key),
    "replace": lambda store, key: store.replace(key, b"data", "version"),
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


@pytest.fixture(scope="module")
def ignoring_store(moto_endpoint: S3Server) -> Iterator[S3ArtifactStore]:
    """On a server that ignores If-Match, as older ones do: the header never leaves the client."""
    with closing(S3ArtifactStore(moto_endpoint.bucket, moto_endpoint.endpoint_url, prefix="ignoring")) as store:
        ignore_if_match(store)
        yield store


@pytest.fixture(params=["memory", "local", "measured", "moto", "ignoring", "radosgw"])
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


def test_replace_stores_where_the_version_is_still_there(store: ArtifactStore) -> None:
    store.put("aliases/default.json", b"first")
    first = store.read_versioned("aliases/default.json")

    replaced = store.replace("aliases/default.json", b"second", first.version)

    assert first.data == b"first"
    assert replaced
    assert store.get("aliases/default.json") == b"second"
    assert store.read_versioned("aliases/default.json").data == b"second"


@pytest.mark.parametrize("write", ["create", "put", "replace"])
def test_replace_works_after_any_other_write_and_again(store: ArtifactStore, write: str) -> None:
    key = "aliases/default.json"
    if write == "replace":
        store.put(key, b"before")
        store.replace(key, b"0", store.read_versioned(key).version)
    else:
        getattr(store, write)(key, b"0")

    for number in (b"1", b"2", b"1", b"2", b"3"):
        assert store.replace(key, number, store.read_versioned(key).version)
        assert store.read_versioned(key).data == store.get(key) == number


@pytest.mark.parametrize("write", ["put", "replace"])
def test_replace_leaves_what_another_has_written_since(store: ArtifactStore, write: str) -> None:
    key = "aliases/default.json"
    store.put(key, b"first")
    first = store.read_versioned(key)
    if write == "put":
        store.put(key, b"theirs")
    else:
        assert store.replace(key, b"theirs", first.version)

    assert not store.replace(key, b"mine", first.version)
    assert not store.replace(key, b"mine again", first.version)
    assert store.get(key) == b"theirs"
    assert store.replace(key, b"on top", store.read_versioned(key).version)


def test_an_artifact_that_returns_to_earlier_bytes_can_still_be_replaced(store: ArtifactStore) -> None:
    key = "aliases/default.json"
    for data in (b"a", b"b", b"a"):
        store.put(key, data)
        assert store.replace(key, b"next", store.read_versioned(key).version)
        assert store.get(key) == b"next"


def test_replace_of_what_is_missing_or_deleted_stores_nothing(store: ArtifactStore) -> None:
    key = "aliases/default.json"
    store.put(key, b"first")
    first = store.read_versioned(key)
    store.delete(key)

    assert not store.replace(key, b"mine", first.version)
    assert not store.replace("aliases/other.json", b"mine", first.version)
    assert not store.exists(key)
    assert store.list_keys("aliases/") == []


def test_read_versioned_of_a_missing_key_names_the_key(store: ArtifactStore) -> None:
    with pytest.raises(ArtifactNotFound, match=r"aliases/default\.json"):
        store.read_versioned("aliases/default.json")


def test_what_replace_leaves_behind_is_not_listed(store: ArtifactStore) -> None:
    store.put("aliases/default.json", b"first")
    store.put("top.json", b"first")
    for key in ("aliases/default.json", "top.json"):
        store.replace(key, b"second", store.read_versioned(key).version)

    assert store.list_keys("") == ["aliases/default.json", "top.json"]


def test_of_many_racing_replaces_of_one_version_exactly_one_wins(store: ArtifactStore) -> None:
    store.put("aliases/default.json", b"first")
    version = store.read_versioned("aliases/default.json").version
    start = threading.Barrier(N_RACERS)

    def race(racer: int) -> bool:
        start.wait()
        return store.replace("aliases/default.json", str(racer).encode(), version)

    with ThreadPoolExecutor(N_RACERS) as pool:
        won = list(pool.map(race, range(N_RACERS)))

    assert won.count(True) == 1
    assert store.get("aliases/default.json") == str(won.index(True)).encode()


def test_of_changes_that_threads_make_at_once_none_is_lost(store: ArtifactStore) -> None:
    start = threading.Barrier(4)

    def change(racer: int) -> None:
        start.wait()
        for number in range(5):
            append(store, f"{racer}-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))

    found = read_updated(store, KEY, Names).names
    assert sorted(found) == sorted(f"{racer}-{number}" for racer in range(4) for number in range(5))
    assert all([name for name in found if name[0] == racer] == [f"{racer}-{k}" for k in range(5)] for racer in "0123")
    assert json.loads(store.get(KEY))["names"] == list(found)


@pytest.mark.parametrize("kind", ["local", "moto", "ignoring", "radosgw"])
def test_of_changes_that_processes_make_at_once_none_is_lost(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    where = str(tmp_path / "artifacts")
    if kind != "local":
        where = request.getfixturevalue("radosgw" if kind == "radosgw" else "moto_endpoint").endpoint_url
    prefix = f"processes-{kind}"
    command = [sys.executable, "-m", "tests.contracts.changing", kind, where, prefix]

    writers = [subprocess.Popen([*dies_with_us(), *command, name]) for name in "ab"]

    assert [writer.wait(60) for writer in writers] == [0, 0]
    with open_store(kind, where, prefix) as store:
        found = read_updated(store, KEY, Names).names
    assert sorted(found) == sorted(f"{name}-{number}" for name in "ab" for number in range(N_CHANGES))


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
def test_a_malformed_key_is_a_bug(store: ArtifactStore, method: str) -> None:
    for key in HOSTILE_KEYS:
        with pytest.raises(ValueError, match="not an artifact key"):
            METHODS[method](store, key)


@pytest.mark.parametrize("prefix", ["/", "..", "../", "a//", "a/../b", ".", "a b", "a\x00"])
def test_a_prefix_that_no_key_can_start_with_is_a_bug(store: ArtifactStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="not the beginning of an artifact key"):
        store.list_keys(prefix)
