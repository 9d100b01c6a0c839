"""``bin/stock-forecast`` as a user starts it: from an empty folder, without an activated environment or a network."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import dies_with_us, free_port, listens, wait_until
from tests.test_layers import project_files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLI = [str(ROOT / "bin" / "stock-forecast")]
ENDLESS = ["train", "^GSPC", "--start", "2010-01-01", "--epochs", "1000", "--patience", "100", "--no-warm-start"]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that runs the tests in the background makes them and their children ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def run(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def started(folder: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*dies_with_us(), *CLI, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_an_epoch(folder: Path, within_s: float = 90.0) -> str:
    """The id of the one job, once its first epoch is done."""

    def trained() -> list[str]:
        found = (folder / "var" / "jobs").glob("*/progress.json")
        return [path.parent.name for path in found if json.loads(path.read_text() or "{}").get("epoch", 0)]

    wait_until(lambda: bool(trained()), within_s, "an epoch")
    return trained()[0]


def end_of(folder: Path, job_id: str) -> Any:
    return json.loads((folder / "var" / "jobs" / job_id / "end.json").read_text())


def test_demo_trains_forecasts_backtests_and_draws_in_an_empty_folder(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    del environment["PRICE_SOURCE"]  # the demo chooses the sample itself

    done = run(tmp_path, environment, "demo")

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "var" / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "that of the no-change forecast" in " ".join(done.stdout.split())
    pasted = done.stderr[done.stderr.rindex("PRICE_SOURCE=sample ") :]
    again = subprocess.run(
        ["sh", "-c", pasted], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "last close 2,641.89 on 2018-11-20" in " ".join(again.stdout.split())
    assert "Traceback" not in done.stderr
    assert "WARNING" not in done.stderr


@pytest.mark.parametrize("links", [1, 2], ids=["link", "link to a link"])
def test_the_program_starts_through_a_link_from_any_folder(
    tmp_path: Path, environment: dict[str, str], links: int
) -> None:
    place, target = tmp_path / "with space", Path(CLI[0])
    place.mkdir()
    for number in range(links):
        link = place / (f"{number}" if number < links - 1 else "stock-forecast")
        link.symlink_to(target if number == 0 else target.name)
        target = link

    done = subprocess.run(
        ["stock-forecast", "models", "--help"],  # what works in this process imports for a second more
        cwd=place,
        env=environment | {"PATH": f"{place}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "stock-forecast models" in done.stdout


def test_serve_answers_and_the_command_line_finds_it(tmp_path: Path, environment: dict[str, str]) -> None:
    port = free_port()
    with started(tmp_path, environment, "serve", "--port", str(port)) as server:
        wait_until(lambda: listens(port), 60, "the server")

        done = run(tmp_path, environment, "--url", f"http://127.0.0.1:{port}", "forecast", "^GSPC", "--json")
        answer = requests.post(f"http://127.0.0.1:{port}/models/default/forecast", json={"ticker": "^GSPC"}, timeout=30)
        server.terminate()
        server.communicate(timeout=30)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == answer.json()


def test_an_error_in_a_process_of_its_own_is_its_exit_code(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(tmp_path, environment, "fetch", "NOPE")

    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("error: ticker_not_found: ")


def test_commands_load_the_server_only_to_work_in_this_process(tmp_path: Path, environment: dict[str, str]) -> None:
    modules = [f"cli.{path.stem}" for path in (ROOT / "cli").glob("[a-z]*.py") if path.stem not in ("inline", "plots")]
    probe = f"import json, sys, {', '.join(modules)}; print(json.dumps([name.split('.')[0] for name in sys.modules]))"

    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )

    server = {path.removesuffix(".py").split("/")[0] for path in project_files()} - {"cli", "client"}
    assert set(json.loads(done.stdout)) & (server | {"fastapi", "matplotlib", "torch", "pandas"}) == set()


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path, environment: dict[str, str]) -> None:
    for name in ("cli", "config", "errors", "typer"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong module')")

    assert run(tmp_path, environment, "models", "list").returncode == 0


@pytest.mark.usefixtures("interruptible")
def test_interrupting_a_training_here_cancels_it(tmp_path: Path, environment: dict[str, str]) -> None:
    with started(tmp_path, environment, *ENDLESS) as training:
        job_id = wait_for_an_epoch(tmp_path)
        training.send_signal(signal.SIGINT)
        _, output = training.communicate(timeout=60)

    assert training.returncode == 130, output
    assert "cancelling job" in output
    assert "Traceback" not in output
    assert end_of(tmp_path, job_id)["state"] == "cancelled"
    assert not (tmp_path / "var" / "models").exists()


@pytest.mark.usefixtures("interruptible")
def test_interrupting_a_training_elsewhere_leaves_it_alone(
    tmp_path: Path, environment: dict[str, str], server: str, folder: Path
) -> None:
    def newest() -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = requests.get(f"{server}/jobs?limit=1", timeout=30).json()["jobs"]
        return jobs

    with started(tmp_path, environment, "--url", server, *ENDLESS) as training:
        wait_until(lambda: [job["state"] for job in newest()] == ["running"], 90, "the training")
        job = newest()
        training.send_signal(signal.SIGINT)
        _, output = training.communicate(timeout=60)

    state = requests.get(f"{server}/jobs/{job[0]['id']}", timeout=30).json()["state"]
    requests.delete(f"{server}/jobs/{job[0]['id']}", timeout=30)
    assert training.returncode == 130, output
    assert "continues on the server" in output
    assert state == "running"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (
            {"_STOCK_FORECAST_COMPLETE": "source_bash"},
            "complete -o default -F _stock_forecast_completion stock-forecast",
        ),
        ({"_STOCK_FORECAST_COMPLETE": "complete_bash", "COMP_WORDS": "stock-forecast mo", "COMP_CWORD": "1"}, "models"),
    ],
    ids=["set up", "complete"],
)
def test_a_shell_completes_commands(
    tmp_path: Path, environment: dict[str, str], asked: dict[str, str], expected: str
) -> None:
    done = subprocess.run(
        CLI, cwd=tmp_path, env=environment | asked, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.strip().splitlines()[-1] == expected
