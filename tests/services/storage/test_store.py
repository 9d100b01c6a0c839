"""What is specific to the store in a folder; the contract suite tests what every store does."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from errors import StoreUnavailable
from services.storage.store import ArtifactStore, LocalArtifactStore, is_key, remove_temporary_files
from tests.fakes import InMemoryArtifactStore
from tests.processes import dies_with_us

UNPRIVILEGED = 65534

CALLS: dict[str, Callable[[ArtifactStore, str], object]] = {
    "get": lambda store, key: store.get(key),
    "put": lambda store, key: store.put(key, b""),
    "create": lambda store, key: store.create(key, b""),
    "exists": lambda store, key: store.exists(key),
    "delete": lambda store, key: store.delete(key),
    "read_versioned": lambda store, key: store.read_versioned(key),
    "list": lambda store, _: store.list_keys(""),
}

segments = st.from_regex(r"[A-Za-z0-9_^][A-Za-z0-9._=^-]{0,11}", fullmatch=True)
keys = st.lists(segments, min_size=1, max_size=4).map("/".join)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def store(root: Path) -> LocalArtifactStore:
    return LocalArtifactStore(root)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Run as another user than root, who passes every permission check."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        if user == 0:
            os.seteuid(0)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond ``size`` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_unavailable(store: ArtifactStore, key: str, reason: str, *calls: str) -> None:
    for call in calls:
        with pytest.raises(StoreUnavailable, match=reason):
            CALLS[call](store, key)


def files_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@settings(max_examples=40, deadline=None)
@given(artifacts=st.dictionaries(keys, st.binary(max_size=64), max_size=6), prefix=keys)
def test_a_store_is_a_dictionary_of_bytes(artifacts: dict[str, bytes], prefix: str) -> None:
    assume(not any(other.startswith(f"{key}/") for key in artifacts for other in artifacts))
    with tempfile.TemporaryDirectory() as folder:
        stores: list[ArtifactStore] = [LocalArtifactStore(Path(folder)), InMemoryArtifactStore()]
        for store in stores:
            for key, data in artifacts.items():
                store.put(key, data)

            assert {key: store.get(key) for key in store.list_keys("")} == artifacts
            assert store.list_keys("") == sorted(artifacts)
            assert store.list_keys(prefix) == sorted(key for key in artifacts if key.startswith(prefix))


@given(parts=st.lists(st.sampled_from(["a", "a.b", "a..", "..", ".", "", ".a", "-", "\x00", "a\\.."]), max_size=4))
def test_a_key_never_leaves_the_root(parts: list[str]) -> None:
    text = "/".join(parts)

    stays_below = os.path.normpath(f"/root/{text}") == f"/root/{text}"

    assert stays_below or not is_key(text)


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("a" * 200, True),
        ("a" * 201, False),
        ("/".join(["a" * 99] * 5), True),
        (f"{'a' * 100}/{'/'.join(['a' * 99] * 4)}", True),
        (f"{'a' * 101}/{'/'.join(['a' * 99] * 4)}", False),
    ],
)
def test_a_key_has_500_characters_at_most_and_each_part_200(store: LocalArtifactStore, key: str, *, fits: bool) -> None:
    assert is_key(key) is fits
    if fits:
        store.put(key, b"{}")
        assert store.list_keys(key) == [key]
        return
    for call in ("get", "put", "create", "exists", "delete", "read_versioned"):
        with pytest.raises(ValueError, match="not an artifact key"):
            CALLS[call](store, key)
    with pytest.raises(ValueError, match="not the beginning of an artifact key"):
        store.list_keys(key)


def test_an_artifact_is_a_plain_file_at_its_key(store: LocalArtifactStore, root: Path) -> None:
    store.put("models/a/card.json", b"{}")

    assert (root / "models" / "a" / "card.json").read_bytes() == b"{}"
    assert files_below(root) == ["models/a/card.json"]


def test_the_umask_decides_who_can_read_an_artifact(store: LocalArtifactStore, root: Path) -> None:
    former = os.umask(0o022)
    try:
        store.put("put", b"")
        store.create("created", b"")
    finally:
        os.umask(former)

    assert {(root / name).stat().st_mode & 0o777 for name in ("put", "created")} == {0o644}


def test_a_lost_create_leaves_no_file_behind(store: LocalArtifactStore, root: Path) -> None:
    store.create("claim", b"mine")

    store.create("claim", b"yours")

    assert files_below(root) == ["claim"]


def test_other_files_are_not_listed(store: LocalArtifactStore, root: Path) -> None:
    store.put("models/a/card.json", b"{}")
    (root / "models" / "a" / ".0123.tmp").write_bytes(b"left by a crash")
    (root / "models" / "with space").write_bytes(b"another file")

    assert store.list_keys("") == ["models/a/card.json"]


KILLED = """
import os, pathlib, signal, sys
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
from services.storage.store import LocalArtifactStore
LocalArtifactStore(pathlib.Path(sys.argv[1])).put("models/a/card.json", b"half")
"""


def test_what_killed_writers_leave_is_removed_once_no_writer_can_be_at_work(root: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = files_below(root)
    others = (".notes.tmp", f"{left}.csv", "models/a/card.json")
    for other in others:
        (root / other).write_bytes(b"not a temporary file of the store")
    written_at = datetime.fromtimestamp((root / left).stat().st_mtime, UTC)

    assert remove_temporary_files(root, written_at - timedelta(seconds=1)) == 0
    assert left in files_below(root)
    assert remove_temporary_files(root, written_at + timedelta(seconds=1)) == 1
    assert files_below(root) == sorted(others)


def test_a_folder_that_is_not_there_has_no_temporary_files(root: Path) -> None:
    assert remove_temporary_files(root, datetime.now(UTC)) == 0


@pytest.mark.parametrize("method", ["put", "create"])
@pytest.mark.parametrize(("stored", "key"), [("a/b", "a"), ("a", "a/b"), ("a", "a/b/c")])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_key_is_never_also_the_folder_of_others(root: Path, kind: str, method: str, stored: str, key: str) -> None:
    store = LocalArtifactStore(root) if kind == "local" else InMemoryArtifactStore()
    store.put(stored, b"data")

    with pytest.raises(ValueError, match="both an artifact and the folder of others"):
        getattr(store, method)(key, b"data")


@pytest.mark.parametrize("key", ["link", "folder/card.json"])
def test_symbolic_links_are_refused_wherever_they_lead(tmp_path: Path, key: str) -> None:
    root, outside = tmp_path / "artifacts", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "card.json").write_bytes(b"secret")
    (root / "link").symlink_to(outside / "card.json")
    (root / "folder").symlink_to(outside)
    store = LocalArtifactStore(root)

    assert_unavailable(store, key, "symbolic link", "get", "put", "create", "exists", "delete")
    assert store.list_keys("") == []
    assert (outside / "card.json").read_bytes() == b"secret"


@pytest.mark.parametrize("root", ["link", ""], ids=["symbolic link", "relative"])
def test_the_root_may_be_relative_or_a_symbolic_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    store = LocalArtifactStore(Path(root))

    store.put("models/a/card.json", b"{}")

    assert store.list_keys("models/") == ["models/a/card.json"]


def test_a_root_that_is_a_file_makes_the_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_bytes(b"")
    store = LocalArtifactStore(tmp_path / "artifacts")

    assert_unavailable(store, "key", "not a folder", *CALLS)


def test_a_folder_we_may_not_write_to_can_still_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LocalArtifactStore(Path(folder))
        store.put("card.json", b"{}")
        Path(folder).chmod(0o555)

        with without_privileges():
            assert store.get("card.json") == b"{}"
            assert_unavailable(store, "card.json", "Permission denied", "put", "delete")
            assert_unavailable(store, "other.json", "Permission denied", "create")


def test_a_folder_we_may_not_read_is_unavailable_rather_than_empty() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LocalArtifactStore(Path(folder))
        store.put("models/card.json", b"{}")
        (Path(folder) / "models").chmod(0o000)
        Path(folder).chmod(0o755)

        with without_privileges():
            assert_unavailable(store, "models/card.json", "Permission denied", "get", "exists", "list")
        (Path(folder) / "models").chmod(0o755)


@pytest.mark.parametrize("method", ["put", "create"])
def test_a_write_that_fails_midway_leaves_everything_as_it_was(
    store: LocalArtifactStore, root: Path, method: str
) -> None:
    store.put("card.json", b"old")

    with largest_file(1000), pytest.raises(StoreUnavailable, match="File too large"):
        getattr(store, method)("card.json", bytes(5000))

    assert store.get("card.json") == b"old"
    assert files_below(root) == ["card.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_failing_disk_is_named_without_its_path(
    store: LocalArtifactStore, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number), str(root))

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(StoreUnavailable) as failure:
        store.put("models/a/card.json", b"{}")

    assert failure.value.message == f"the artifact folder could not write 'models/a/card.json': {os.strerror(number)}"
    assert str(root) not in str(failure.value.context)
    assert store.list_keys("") == []


HOLDER = """
import sys, time
from pathlib import Path
from services.storage.store import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(store: LocalArtifactStore, root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has locked the folder."""
    store.put("alias", b"first")
    command = [*dies_with_us(), sys.executable, "-c", HOLDER, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_killed_process_leaves_no_lock(store: LocalArtifactStore, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert store.replace("alias", b"second", store.read_versioned("alias").version)


@pytest.mark.usefixtures("holder")
def test_a_lock_that_is_never_freed_is_an_outage_and_reads_and_other_writes_go_on(
    store: LocalArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.storage.store.LOCK_WITHIN_S", 0.2)
    version = store.read_versioned("alias").version

    with pytest.raises(StoreUnavailable, match="locked") as failure:
        store.replace("alias", b"second", version)

    assert failure.value.retry_after_s == 1
    assert store.get("alias") == b"first"
    assert store.create("other", b"data")


def test_a_lock_that_is_a_link_is_refused(store: LocalArtifactStore, root: Path, tmp_path: Path) -> None:
    store.put("alias", b"first")
    (root / ".lock").symlink_to(tmp_path / "outside")

    with pytest.raises(StoreUnavailable):
        store.replace("alias", b"second", store.read_versioned("alias").version)

    assert not (tmp_path / "outside").exists()
