"""The command line in this process, on the sample prices, beside a server on the same folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.server import running_server
from cli.main import app
from client import Client
from schemas.train import TrainRequest

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where server and command line keep their models and jobs."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[str]:
    with running_server({"PRICE_SOURCE": "sample", "DATA_DIR": str(folder)}) as url:
        yield url


@pytest.fixture(scope="session")
def model_id(server: str) -> str:
    with Client(server, poll_s=0.2) as client:
        return client.train(TrainRequest.model_validate({"ticker": "^GSPC", "model": "ewma"})).id


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, where no ``.env`` lies; keywords are settings."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object, **settings: str) -> Result:
        environment = {"PRICE_SOURCE": "sample", "DATA_DIR": str(folder), "HOME": str(tmp_path), **settings}
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)

    return invoke


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process on an empty folder without a network."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PRICE_SOURCE": "sample",
        "DATA_DIR": str(tmp_path / "var"),
        "OMP_NUM_THREADS": "1",
    }
