import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make not found")


def price_source_of_run(folder: Path, shell: str | None, dotenv: str | None) -> str:
    """The PRICE_SOURCE that ``make run`` passes to the program; "" for none."""
    program = folder / "python"
    program.write_text('#!/bin/sh\necho "$PRICE_SOURCE"\n')
    program.chmod(0o755)
    if dotenv is not None:
        (folder / ".env").write_text(dotenv)
    environment = {"PATH": os.environ["PATH"]} | ({} if shell is None else {"PRICE_SOURCE": shell})
    done = subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/.run", f"BIN={folder}", "run"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "dotenv", [None, "", "PORT=8000\n", "PRICE_SOURCE=\n", "# PRICE_SOURCE=csv\n", "PRICE_SOURCE= # csv"]
)
@pytest.mark.parametrize("shell", [None, ""])
def test_without_a_setting_make_run_falls_back_to_the_sample(
    tmp_path: Path, shell: str | None, dotenv: str | None
) -> None:
    assert price_source_of_run(tmp_path, shell, dotenv) == "yahoo,sample"


@pytest.mark.parametrize("dotenv", [None, "PRICE_SOURCE=yahoo\n"])
def test_make_run_uses_the_price_source_of_the_shell(tmp_path: Path, dotenv: str | None) -> None:
    assert price_source_of_run(tmp_path, "csv", dotenv) == "csv"


@pytest.mark.parametrize("line", ["PRICE_SOURCE=yahoo", "export PRICE_SOURCE = 'csv'", 'price_source="sample"'])
def test_make_run_keeps_a_price_source_in_dotenv(tmp_path: Path, line: str) -> None:
    assert price_source_of_run(tmp_path, None, f"PORT=8000\n{line}\n") == ""


def default_model(folder: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    """``make default-model`` with a program that prints its arguments instead of training."""
    program = folder / "python"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    command = ["make", "-s", "-f", str(ROOT / "Makefile"), "-o", ".venv/.dev", f"BIN={folder}", "default-model"]
    return subprocess.run(
        [*command, *variables],
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        (["UNIVERSE=my prices"], "my prices"),
        (["UNIVERSE=prices", "HELD_OUT=later"], "prices --held-out later"),
    ],
)
def test_make_default_model_trains_on_a_universe(tmp_path: Path, variables: list[str], arguments: str) -> None:
    done = default_model(tmp_path, *variables)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"-m tools.default_model {arguments}"


def test_make_default_model_needs_a_universe(tmp_path: Path) -> None:
    done = default_model(tmp_path)

    assert done.returncode != 0
    assert "make default-model UNIVERSE=DIR" in done.stdout
