"""The pages of the command line and the client against the program: what they show runs, what exists is shown."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from string import Template

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.exits import Exit
from cli.main import app
from stock_forecast_client import Client

ROOT = Path(__file__).parent.parent
CLI_PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
CLIENT_PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")

EXAMPLES = re.findall(r"^```python\n(.*?)^```", CLIENT_PAGE, re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"^```sh\n(.*?)\n```", CLI_PAGE, re.MULTILINE | re.DOTALL)
PROGRAM = "bin/stock-forecast"
DEMO = f"{PROGRAM} demo"  # run by tests/cli/test_processes.py, which starts the program as a user does
COMMANDS = [command for command in SHOWN if command != DEMO]


@pytest.fixture(scope="module")
def names(server: str) -> dict[str, str]:
    """The ids in place of a reader's own."""
    with Client(server, poll_s=0.2) as client:
        job = client.follow(client.start_training(ticker="^GSPC", model="ewma").id)
    return {"MODEL": job.model_id, "JOB": job.id}


@pytest.fixture
def environment(data: Path) -> dict[str, str]:
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(data),
        "PYTHONPATH": str(ROOT / "client"),
        "PRICE_SOURCE": "sample",
        "DATA_DIR": str(data),
    }


def commands_of_the_program() -> list[str]:
    root = get_command(app)
    names: list[str] = []
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        names += [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]
    return names


@pytest.mark.parametrize("command", commands_of_the_program())
def test_every_command_is_on_the_page(command: str) -> None:
    assert re.search(rf"({PROGRAM} |`){command}\b", CLI_PAGE)


def test_the_page_lists_exactly_the_exit_codes() -> None:
    rows = [int(code) for code in re.findall(r"^\| (\d+) \|", CLI_PAGE, re.MULTILINE)]

    assert rows == [*(code.value for code in Exit), 130]


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(
    command: str,
    data: Path,
    environment: dict[str, str],
    names: dict[str, str],
    server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(data)
    words = shlex.split(Template(command).substitute(names).replace("http://localhost:8000", server))

    done = CliRunner().invoke(app, words[1:], env=environment)

    assert words[0] == PROGRAM
    assert done.exit_code == 0, done.output
    assert done.stdout or "deleted " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_client_runs(
    example: str, data: Path, environment: dict[str, str], server: str, names: dict[str, str]
) -> None:
    assert names  # there is a model to list

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example.replace("http://localhost:8000", server)],
        cwd=data,
        env=environment | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout
