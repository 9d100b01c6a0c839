"""The whole application in process, over fakes where the network would be."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from services.jobs.job import Jobs
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from tests.fakes import (
    FakePriceSource,
    InlineExecutor,
    InMemoryArtifactStore,
    application,
    use_prices,
    use_registry,
    walk_history,
)

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
SETTINGS = Settings(_env_file=None)  # once: reading them takes as long as building an application


@pytest.fixture
def app(tmp_path: Path, store: InMemoryArtifactStore, trained: TrainedModel) -> FastAPI:
    return _with_a_model(tmp_path, store, trained)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, trained: TrainedModel) -> TestClient:
    """One application for many requests that change nothing, because they are malformed."""
    app = _with_a_model(tmp_path_factory.mktemp("refusing"), InMemoryArtifactStore(), trained)
    app.state.runtime.registry.move_alias("default", trained.card.model_id, NOW)
    return TestClient(app, raise_server_exceptions=False)


def _with_a_model(folder: Path, store: InMemoryArtifactStore, trained: TrainedModel) -> FastAPI:
    settings = SETTINGS.model_copy(update={"data_dir": folder})
    app = application(settings, clock=lambda: NOW, store=store)
    use_prices(
        app, FakePriceSource(walk_history(), walk_history("OTHER", seed=5), walk_history("SHORT", n_sessions=100))
    )
    use_registry(app, ModelRegistry(store))
    app.state.runtime.jobs = Jobs(store)
    app.state.runtime.executor = app.state.runtime.backtest_executor = InlineExecutor(app)
    app.state.runtime.registry.publish(trained.card, trained.files)
    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def model_id(trained: TrainedModel) -> str:
    return trained.card.model_id


@pytest.fixture
def default(app: FastAPI, model_id: str) -> str:
    """The id of the default model."""
    app.state.runtime.registry.move_alias("default", model_id, NOW)
    return model_id
