"""A run from the command line: in this process, whose workers are processes of their own."""

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_run_names_what_failed_and_prints_its_results(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed, data = tmp_path / "tickers.txt", str(tmp_path / "var")
    listed.write_text("^gspc   # lower case\nNOPE\n", encoding="utf-8")

    done = run("run", "start", "forecast", "--tickers-file", listed, "--horizon", "1", DATA_DIR=data)
    (found,) = json.loads(run("run", "list", "--json", DATA_DIR=data).stdout)["runs"]
    shown = run("run", "show", found["id"], DATA_DIR=data)
    table = run("run", "results", found["id"], DATA_DIR=data)
    written = run("run", "results", found["id"], "--output", tmp_path / "results.csv", DATA_DIR=data)

    assert done.exit_code == 3, done.output
    assert "1 succeeded, 1 failed" in done.stdout
    assert "NOPE: ticker_not_found: " in done.stdout
    assert shown.stdout == done.stdout
    assert capfd.readouterr().err == ""  # its workers are processes that log into the same terminal
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert [(row["ticker"], row["state"]) for row in rows] == [("^GSPC", "succeeded"), ("NOPE", "failed")]
    assert written.exit_code == 0
    assert (tmp_path / "results.csv").read_text(encoding="utf-8") == table.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["start", "forecast"], 2, "exactly one of tickers and universe"),
        (["start", "bake", "^GSPC"], 2, "action"),
        (["start", "forecast", "^GSPC", "--promote"], 2, "not for forecast"),
        (["start", "train", "^GSPC", "--no-wait"], 2, "--url"),
        (["start", "forecast", "--universe", "world"], 3, "universe_not_found"),
        (["show", "20240719t220000-00000000"], 3, "run_not_found"),
        (["cancel", "nonsense"], 2, "expected an id such as"),
    ],
    ids=["nothing", "action", "promote", "no-wait", "universe", "unknown", "id"],
)
def test_a_mistake_is_named(run: Run, arguments: list[str], code: int, says: str) -> None:
    done = run("run", *arguments)

    assert done.exit_code == code, done.output
    assert says in " ".join(done.output.split())
