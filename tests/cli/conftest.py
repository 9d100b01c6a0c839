"""The command line in this process, on the sample prices, and a server on the same folder."""

import io
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner, Result

from cli.layout import THEME
from cli.main import app
from schemas.realised import ForecastOutcome, SessionScores
from services.monitoring.scoring import scores_key
from services.storage.store import LocalArtifactStore
from stock_forecast_client import Client
from stock_forecast_client.models import Analysis
from tests.forked_servers import ForkedServers

Run = Callable[..., Result]
ANALYSIS = Path(__file__).parents[1] / "data" / "analysis.json"  # of ^GSPC's last sessions, lists shortened


@pytest.fixture(autouse=True)
def width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of pytest-xdist have the width of a terminal in their environment."""
    monkeypatch.delenv("COLUMNS", raising=False)


def rendered(shown: RenderableType, width: int) -> str:
    """What a terminal of this width shows, without colours and without spaces at the ends of lines."""
    file = io.StringIO()
    Console(file=file, width=width, markup=False, highlight=False, emoji=False, theme=THEME).print(shown)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where server and command line keep their models and jobs."""
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="session")
def server(servers: ForkedServers, folder: Path) -> Iterator[str]:
    with servers.running({"PRICE_SOURCE": "sample", "DATA_DIR": str(folder)}) as url:
        yield url


@pytest.fixture(scope="session")
def model_id(server: str) -> str:
    with Client(server, poll_s=0.2) as client:
        return client.train(ticker="^GSPC", model="ewma", start_date="2014-01-01").id


@pytest.fixture(scope="session")
def scored(folder: Path) -> None:
    """A forecast of the default model that came true yesterday, and one that did not the day before."""
    store = LocalArtifactStore(folder)
    for days, actual in ((1, 101.0), (2, 120.0)):
        session = datetime.now(UTC).date() - timedelta(days=days)
        store.create(scores_key("^GSPC", session), came_true(session, actual).model_dump_json().encode())


def came_true(session: date, actual: float) -> SessionScores:
    """The scores of one forecast of 102 after a close of 100, whose 80 % interval went from 90 to 110."""
    pair = ForecastOutcome(
        model_id="bundled-20210421-00000001",
        model="return_lstm",
        origin=session - timedelta(days=1),
        step=1,
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        last=100.0,
        actual=actual,
        median=102.0,
        levels=(0.8,),
        lower=(90.0,),
        upper=(110.0,),
        crps=2.0,
        persistence_crps=2.5,
        pit=0.5,
    )
    return SessionScores(ticker="^GSPC", session=session, scored_at=pair.made_at, pairs=(pair,))


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process, where no ``.env`` lies; keywords are settings."""
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: object, **settings: str) -> Result:
        environment = {"PRICE_SOURCE": "sample", "DATA_DIR": str(folder), "HOME": str(tmp_path), **settings}
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=environment)

    return invoke


@pytest.fixture(scope="session")
def analysis() -> Analysis:
    return Analysis.model_validate_json(ANALYSIS.read_bytes())


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a process in an empty folder, without a network."""
    return {
        "PATH": "/usr/bin:/bin",  # as in a fresh shell
        "HOME": str(tmp_path),
        "PRICE_SOURCE": "sample",
        "DATA_DIR": str(tmp_path / "var"),
        "OMP_NUM_THREADS": "1",
    }
