import asyncio
import gc
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import botocore.session
import httpcore2
import pytest
from _pytest.doctest import DoctestModule
from fastapi.openapi.utils import get_openapi
from hypothesis import settings
from typer.main import get_command

from config import prepare_environment
from models import runtime
from schemas.train import TrainRequest
from services.jobs.job import Jobs
from services.storage.cards import read_card
from services.training.train import TrainedModel, train_model
from tests.fakes import EMPTY_REGISTRY, FakePriceSource, InMemoryArtifactStore, RecordingMeter, walk_history
from tests.forked_servers import ForkedServers
from tests.s3_servers import (
    ACCESS_KEY,
    RADOSGW_PACKAGES,
    SECRET_KEY,
    S3Server,
    missing_radosgw_programs,
    moto_server,
    radosgw_server,
)
from tests.yahoo_server import YahooServer, running_yahoo

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")
prepare_environment()  # before the libraries that read it are imported
gc.set_threshold(200_000, 20, 50)  # most of what libraries and test modules allocate stays


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for doctests outside this folder only: no test has one, and each process would search every module."""
    collectors = yield
    return [one for one in collectors if not isinstance(one, DoctestModule)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left with one of them at the end.

    They come in the order of their names, not folders: the tests of ``tests/server`` wait for limits of time, and all
    processes would wait at once.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, item.path.name if item.path in slow else "", item.path))


def pytest_collection_finish() -> None:
    """Let no later collection look through modules and tests, which stay until the end."""
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """Let the collections after pytest's own, whose warnings fail the run, skip what it has left."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _the_same_routes_are_described_once() -> Iterator[None]:
    """Every application has the same routes, whose OpenAPI document takes 0.3 s; each gets a copy to add to."""
    described: dict[tuple[tuple[int, ...], str], tuple[list[Any], dict[str, Any]]] = {}

    def get_openapi_once(*, routes: Sequence[Any], **more: Any) -> dict[str, Any]:
        shown = [route for route in routes if getattr(route, "include_in_schema", False)]
        key = tuple(map(id, shown)), repr(more)
        if key not in described:
            described[key] = shown, get_openapi(routes=routes, **more)  # with the routes: no other gets their ids
        return deepcopy(described[key][1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastapi.applications.get_openapi", get_openapi_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def _files_are_read_once() -> Iterator[None]:
    """Each application reads the same networks and the same card, each S3 client the same descriptions of AWS.

    Each HTTP client has the same certificates, and each command the same parser. None of these ever changes, and all
    are safe in any thread.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "_session", lru_cache(64)(runtime._session))
        patch.setattr("services.storage.bundled.read_card", lru_cache(8)(read_card))
        patch.setattr(httpcore2, "default_ssl_context", lru_cache(8)(httpcore2.default_ssl_context))
        patch.setattr("typer.testing._get_command", lru_cache(8)(get_command))
        patch.setattr(botocore.session, "create_loader", lru_cache(8)(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_aws_environment() -> Iterator[None]:
    """No credential, profile or proxy of whoever runs the tests; the ones our test servers accept instead."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="module", autouse=True)
def _loop_of_mangum() -> Iterator[None]:
    """Closes the event loop that Mangum leaves in this thread: dropped by a later test, it would warn there."""
    yield
    with warnings.catch_warnings(), suppress(RuntimeError):  # there may be none
        warnings.simplefilter("ignore", DeprecationWarning)
        left = asyncio.get_event_loop_policy().get_event_loop()
        if not left.is_running():
            left.close()
            asyncio.set_event_loop(None)


@pytest.fixture
def store() -> InMemoryArtifactStore:
    return InMemoryArtifactStore()


@pytest.fixture
def jobs(store: InMemoryArtifactStore) -> Jobs:
    return Jobs(store)


@pytest.fixture
def meter() -> RecordingMeter:
    return RecordingMeter()


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    with running_yahoo() as server:
        yield server


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the module's server."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def servers() -> Iterator[ForkedServers]:
    """Starts servers for tests that are not about the start."""
    with closing(ForkedServers()) as servers:
        yield servers


@pytest.fixture(scope="module")
def forked_workers(servers: ForkedServers) -> Iterator[None]:
    """Forks the workers of this process too, for a module that is not about how they start."""
    with servers.workers():
        yield


@pytest.fixture(scope="module")
def server(servers: ForkedServers, data: Path) -> Iterator[str]:
    """A server on the sample prices, one for each module that needs it."""
    with servers.running({"PRICE_SOURCE": "sample", "DATA_DIR": str(data)}) as url:
        yield url


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[S3Server]:
    """One moto server with an empty bucket for the whole run."""
    with moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One Ceph gateway with an empty bucket for the whole run; skips where Ceph is not installed."""
    missing = missing_radosgw_programs()
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: apt-get install --no-install-recommends {RADOSGW_PACKAGES}")
    with radosgw_server(tmp_path_factory.mktemp("radosgw")) as server:
        yield server


@pytest.fixture(scope="session")
def trained() -> TrainedModel:
    """A real model of a random walk, trained in a second or two."""
    request = TrainRequest(ticker="WALK", epochs=2, sequence_length=20)
    now = datetime(2024, 7, 19, 22, tzinfo=UTC)
    return train_model(
        request, FakePriceSource(walk_history()), EMPTY_REGISTRY, "walk-20240719-1a2b3c4d", now, lambda _: None
    )
