"""Every command that prints tables, in terminals of 60 to 140 columns: no figure, date, id or name is cut."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import RenderableType
from typer.testing import CliRunner

import cli.output
from cli.analysis_table import analysis_table
from cli.as_csv import csv_of, parts_of
from cli.inline import local_client
from cli.main import app
from cli.runs import _run_table, _runs_table
from cli.sheet import Sheet
from cli.target import Target, local_settings
from services.monitoring.scoring import scores_key
from services.storage.evaluations import evaluation_key
from services.storage.store import LocalArtifactStore
from stock_forecast_client import Client
from stock_forecast_client.models import Analysis, ChallengerEvaluation, Run, RunPage
from tests.cli.conftest import came_true, rendered
from tests.fakes import walk_history, write_prices

pytestmark = pytest.mark.slow

WIDTHS = (60, 80, 100, 140)
WIDEST = 400  # where every column of every table is shown

COMMANDS = {
    "train": ["train", "^GSPC", "--model", "ewma", "--start", "2017-01-01"],
    "symbols": ["symbols", "s&p"],
    "fetch": ["fetch", "^GSPC", "--days", "3"],
    "predict": ["predict", "^GSPC"],
    "forecast": ["forecast", "^GSPC", "--horizon", "3", "--level", "0.5", "--level", "0.8", "--level", "0.975"],
    "backtest": ["backtest", "^GSPC", "--start", "2018-10-01", "--stride", "10", "--horizon", "2"],
    "latest": ["latest"],
    "latest --steps": ["latest", "^GSPC", "--steps"],
    "score": ["score"],
    "accuracy": ["accuracy", "--days", "30"],
    "drift": ["drift"],
    "retrain": ["retrain", "^GSPC"],
    "forget": ["forget"],
    "models list": ["models", "list"],
    "models show": ["models", "show"],
    "models alias": ["models", "alias", "wide", "default"],
    "models aliases": ["models", "aliases"],
    "models evaluations": ["models", "evaluations", "wide"],
    "jobs list": ["jobs", "list"],
    "jobs show": ["jobs", "show", "JOB"],
    "universe list": ["universe", "list"],
    "universe show": ["universe", "show", "walks"],
}
"""What a user types; JOB is the training of the first command."""

ALIKE = {
    "train-universe": "train",
    "jobs cancel": "jobs show",
    "jobs retry": "jobs show",
    "jobs watch": "jobs show",
    "run start": "run show",
    "run follow": "run show",
    "run cancel": "run show",
    "run resume": "run show",
}
"""Commands that print what another does."""

COSTLY = ("analyze", "run show", "run list")
"""Commands whose answer takes seconds: a stored one, or one made here, is shown in its place."""

SENTENCES = {"universe download"}
"""Commands that print sentences only, which need a network to run."""


@dataclass(frozen=True)
class Shown:
    """What a command answered, its tables and its CSV."""

    answer: BaseModel
    view: RenderableType
    csv: str

    @property
    def sheets(self) -> Sequence[Sheet]:
        return [part for part in parts_of(self.view) if isinstance(part, Sheet)]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Shown]:
    """Every command, run once on one folder."""
    folder = tmp_path_factory.mktemp("widths")
    analysis = Analysis.model_validate_json((Path(__file__).parents[1] / "data" / "analysis.json").read_bytes())
    run = a_run()
    runs = RunPage(runs=[run], next_after=run.id, unreadable=[])
    views = ((analysis, analysis_table(analysis)), (run, _run_table(run)), (runs, _runs_table(runs)))
    found = {
        name: Shown(answer, view, csv_of(answer, view)) for name, (answer, view) in zip(COSTLY, views, strict=True)
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(folder / "var"), "NIGHTLY_TICKERS": "^GSPC,^IXIC"}
        for name, value in settings.items():
            patch.setenv(name, value)
        fill(folder / "var")
        seen: list[tuple[BaseModel, RenderableType]] = []

        def recorded(answer: BaseModel, view: RenderableType) -> str:
            seen.append((answer, view))
            return csv_of(answer, view)

        patch.setattr(cli.output, "csv_of", recorded)
        with local_client(local_settings()) as client:
            patch.setattr(Target, "client", lambda _self, **_: shared(client))
            client.publish_forecasts()
            for name, words in COMMANDS.items():
                job = getattr(found.get("train"), "answer", None)
                command = [job.id if word == "JOB" and job is not None else word for word in words]
                done = CliRunner().invoke(app, [*command, "--csv"])
                assert done.exit_code in (0, 1), (name, done.output)  # 1: drifted
                found[name] = Shown(*seen.pop(), done.stdout)
    return found


@contextmanager
def shared(client: Client) -> Iterator[Client]:
    yield client


def fill(folder: Path) -> None:
    """Scores, an evaluation and a universe."""
    store = LocalArtifactStore(folder)
    now = datetime.now(UTC)
    for days, actual in ((1, 101.0), (2, 120.0)):
        session = now.date() - timedelta(days=days)
        store.create(scores_key("^GSPC", session), came_true(session, actual).model_dump_json().encode())
    evaluation = ChallengerEvaluation(
        alias="wide",
        job_id="20261121t093000-1a2b3c4d",
        champion_id="bundled-20210421-00000001",
        challenger_id="brasil-bolsa-balcao-20261121-1a2b3c4d",
        tickers=["^GSPC"],
        horizon=5,
        n_origins=497,
        champion_score=0.00512345678,
        challenger_score=0.0051,
        persistence_score=None,
        p_value=0.0312,
        won=False,
        reason="the champion is as good or better",
        at=now,
    )
    store.create(evaluation_key("wide", evaluation.job_id), evaluation.model_dump_json().encode())
    universe = folder / "universes" / "walks"
    universe.mkdir(parents=True)
    for seed, ticker in enumerate(["AAA", "BRASILAGRO3.SA"]):
        write_prices(universe, walk_history(ticker, n_sessions=60, seed=seed))


def a_run() -> Run:
    """A run of which a ticker failed and a worker was lost."""
    return Run.model_validate(
        {
            "id": "20261121t093000-1a2b3c4d",
            "state": "partial",
            "request": {"action": "fine_tune"},
            "n_tickers": 5000,
            "created_at": "2026-11-21T09:30:00Z",
            "ended_at": "2026-11-21T09:45:00Z",
            "cancel_requested": False,
            "engine": "local",
            "base_model_id": "brasil-bolsa-balcao-20261121-1a2b3c4d",
            "n_resumed": 1,
            "counts": {"succeeded": 4998, "failed": 1, "lost": 1},
            "share": 1.0,
            "reason": None,
            "webhook": {
                "host": "hooks.example.com",
                "state": "retrying",
                "attempts": 3,
                "last_error": "hooks.example.com answered 503",
                "next_attempt_at": "2026-11-21T09:49:00Z",
            },
            "failures": [
                {"ticker": "NOPE", "state": "failed", "code": "ticker_not_found", "status": 404, "detail": "none"}
            ],
            "lost_workers": [
                {
                    "worker": "host:12345",
                    "claimed_at": "2026-11-21T09:30:00Z",
                    "lost_at": "2026-11-21T09:40:00Z",
                    "reason": "fell silent",
                    "ticker": "IBM",
                }
            ],
        }
    )


def test_every_command_that_prints_json_prints_csv_and_is_listed_here() -> None:
    def commands(group: Any, path: str = "") -> Iterator[str]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, f"{path}{name} ")
            elif any("--json" in parameter.opts for parameter in command.params):
                assert any("--csv" in parameter.secondary_opts for parameter in command.params), name
                yield f"{path}{name}"

    listed = {*(name.removesuffix(" --steps") for name in COMMANDS), *ALIKE, *COSTLY, *SENTENCES}
    assert set(commands(typer.main.get_command(app))) == listed


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", [*COMMANDS, *COSTLY])
def test_no_cell_is_cut(shown: Mapping[str, Shown], command: str, width: int) -> None:
    found = shown[command]
    text = rendered(found.view, width)
    squeezed = " ".join(text.split())

    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    for sheet in found.sheets:
        for place, column in enumerate(sheet.columns):
            cells = [column.show(row[place]).split() for row in sheet.rows]
            left_out = any(
                column.title in note.split(". Use a terminal")[0] for note in squeezed.split("Not shown: ")[1:]
            )
            assert (
                column.only_csv
                or (column.rank and left_out)
                or all(word in text.split() for cell in cells for word in cell)
            ), column.title


@pytest.mark.parametrize("command", [*COMMANDS, *COSTLY])
def test_a_figure_is_the_same_at_every_width(shown: Mapping[str, Shown], command: str) -> None:
    view = shown[command].view
    complete = rendered(view, WIDEST)

    assert "Not shown" not in complete
    for width in WIDTHS:
        text = re.sub(r"terminal\s+of\s+\d+", "", rendered(view, width))
        words = {word.strip(",.;") for word in text.split() if re.search(r"\d", word)}
        assert words - {word.strip(",.;") for word in complete.split()} == set()


@pytest.mark.parametrize("command", [*COMMANDS, *COSTLY])
def test_every_figure_of_csv_is_in_the_answer(shown: Mapping[str, Shown], command: str) -> None:
    found = shown[command]
    answer = found.answer.model_dump_json()

    for row in csv.DictReader(io.StringIO(found.csv)):
        for name, cell in row.items():
            for figure in re.findall(r"^-?\d+\.\d+(?:e-?\d+)?$", cell or ""):
                assert float(figure) in figures(answer), (name, figure)


def figures(text: str) -> set[float]:
    """Every number of a JSON text."""
    found: set[float] = set()

    def keep(number: str) -> float:
        found.add(float(number))
        return float(number)

    json.loads(text, parse_float=keep, parse_int=keep)
    return found
