"""Commands to paste: quoted, with the program as it is started here, and never broken within a word."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.demo import BACKTEST, FORECAST, TICKER, TRAINING
from cli.main import app
from cli.program import ROOT, SCRIPT, command_line, program


def words_of(command: str) -> list[str]:
    """As a shell reads it."""
    return shlex.split(command.replace("\\\n", " "))


@pytest.mark.parametrize("width", [20, 40, 80, 400])
def test_a_command_is_read_by_a_shell_as_it_was_meant(width: int) -> None:
    command = command_line("train", "^GSPC", width=width, start_date="2010-01-01", levels=[0.5, 0.8], note="it's here")

    said = ["train", "^GSPC", "--start", "2010-01-01", "--level", "0.5", "--level", "0.8", "--note", "it's here"]
    assert words_of(command) == ["PRICE_SOURCE=sample", program(), *said]
    assert all(len(line) <= width or len(line.split()) <= 3 for line in command.splitlines())


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["train", TICKER], TRAINING),
        (["forecast"], FORECAST | {"model": "x", "as_of": "2018-11-20"}),
        (["forecast"], FORECAST | {"model": "x", "plot": "demo.png"}),
        (["backtest"], BACKTEST | {"model": "x"}),
    ],
    ids=["train", "forecast", "draw", "backtest"],
)
def test_every_command_of_the_demo_has_options_that_exist(words: list[str], fields: dict[str, object]) -> None:
    _, _, *arguments = words_of(command_line(*words, width=80, **fields))

    done = CliRunner().invoke(app, [*arguments, "--help"])

    assert done.exit_code == 0, done.output


def test_the_program_is_named_as_it_can_be_started_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    elsewhere = program()
    monkeypatch.chdir(ROOT)
    at_home = program()
    (tmp_path / SCRIPT.name).symlink_to(SCRIPT)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert [elsewhere, at_home, program()] == [str(SCRIPT), "bin/stock-forecast", "stock-forecast"]
