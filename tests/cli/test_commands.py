"""Every command, in this process and through a server: both print the same."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
from typer.testing import Result

from stock_forecast_client.models import Job
from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

GSPC = {"ticker": "^GSPC"}
# what a user types, and the request with the same answer
COMMANDS: dict[str, tuple[list[str], str, str, dict[str, Any] | None]] = {
    "fetch": (["fetch", "^GSPC", "--days", "3"], "POST", "/models/fetch-data", GSPC | {"days": 3}),
    "predict": (["predict", "^GSPC"], "POST", "/models/ticker/%5EGSPC/predict", GSPC),
    "forecast": (
        ["forecast", "^GSPC", "--horizon", "3", "--level", "0.5"],
        "POST",
        "/models/ticker/%5EGSPC/forecast",
        GSPC | {"horizon": 3, "levels": [0.5]},
    ),
    "backtest": (
        ["backtest", "^GSPC", "--start", "2018-06-01", "--stride", "10", "--horizon", "2"],
        "POST",
        "/models/ticker/%5EGSPC/backtest",
        GSPC | {"start": "2018-06-01", "stride": 10, "horizon": 2},
    ),
    "analyze": (["analyze", "^GSPC", "--start", "2017-01-03"], "GET", "/analysis/%5EGSPC?start=2017-01-03", None),
    "symbols": (["symbols", "s&p"], "GET", "/symbols?q=s%26p&limit=10", None),
    "score": (["score"], "POST", "/monitoring/score", None),
    "accuracy": (["accuracy", "^GSPC", "--days", "30"], "GET", "/monitoring/accuracy?ticker=%5EGSPC&days=30", None),
    "drift": (["drift"], "GET", "/monitoring/drift", None),
    "retrain": (["retrain", "^GSPC"], "POST", "/monitoring/retrain", GSPC),
    "models list": (["models", "list"], "GET", "/models", None),
    "models show": (["models", "show", "default"], "GET", "/models/default", None),
    "models aliases": (["models", "aliases"], "GET", "/models/aliases", None),
    "models evaluations": (["models", "evaluations"], "GET", "/models/aliases/default/evaluations", None),
    "jobs list": (["jobs", "list"], "GET", "/jobs", None),
    "run list": (["run", "list"], "GET", "/runs", None),
}
TABLED = {name: command for name, (command, *_) in COMMANDS.items()}
PNG = b"\x89PNG"


@pytest.fixture(params=["local", "url"])
def target(request: pytest.FixtureRequest, server: str) -> list[str]:
    """The options before a command: none for this process."""
    return [] if request.param == "local" else ["--url", server]


def answered(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(("command", "method", "path", "body"), COMMANDS.values(), ids=list(COMMANDS))
@pytest.mark.usefixtures("model_id", "scored")
def test_json_is_the_apis_answer(
    run: Run, target: list[str], server: str, command: list[str], method: str, path: str, body: dict[str, Any] | None
) -> None:
    printed = answered(run(*target, *command, "--json"))

    assert printed == requests.request(method, server + path, json=body, timeout=60).json()


def test_csv_has_the_figures_of_json_and_its_notes_go_to_standard_error(run: Run, target: list[str]) -> None:
    bars = answered(run(*target, *TABLED["fetch"], "--json"))["data"]

    done = run(*target, *TABLED["fetch"], "--csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["session"], float(row["close"]), row["ticker"]) for row in rows] == [
        (bar["Date"], bar["Close"], "^GSPC") for bar in bars
    ]
    assert "note: prices end on 2018-12-31" in done.stderr


@pytest.mark.parametrize("command", TABLED.values(), ids=list(TABLED))
@pytest.mark.usefixtures("model_id", "scored")
def test_a_table_is_the_same_here_and_on_a_server(run: Run, server: str, command: list[str]) -> None:
    here, there = run(*command), run("--url", server, *command)

    assert here.exit_code == 0, here.output
    assert here.stdout == there.stdout
    assert not here.stdout.startswith("{")


@pytest.mark.parametrize("command", ["predict", "forecast"])
def test_a_price_has_its_range_and_the_no_change_forecast(run: Run, command: str) -> None:
    answer = answered(run(command, "^GSPC", "--json"))
    first = answer["forecast"][0] if command == "forecast" else answer

    shown = run(command, "^GSPC").stdout

    assert f"{first['persistence']:,.2f}" in shown
    for interval in first["intervals"]:
        assert f"{interval['level']:.0%} range" in shown
        assert f"{interval['lower']:,.2f} – {interval['upper']:,.2f}" in shown


@pytest.mark.parametrize("command", ["predict", "forecast"])
def test_the_width_of_a_forecast_is_explained(run: Run, command: str) -> None:
    sentence = answered(run(command, "^GSPC", "--json"))["explanation"]["sentence"]

    assert sentence.startswith("The expected daily move is ")
    assert sentence in " ".join(run(command, "^GSPC").stdout.split())


@pytest.mark.parametrize(("command", "ahead"), [("predict", "1 session ahead"), ("forecast", "10 sessions ahead")])
def test_the_test_scores_are_of_the_horizon_and_have_their_p_value_and_origins(
    run: Run, command: str, ahead: str
) -> None:
    test = answered(run(command, "^GSPC", "--json"))["test"]

    shown = " ".join(run(command, "^GSPC").stdout.split())

    tested = f"{ahead}, on {test['n_origins']:,} test origins of all tickers of universe bundled"
    assert f"{tested}: MAPE {test['model']['mape']:.3%}" in shown
    assert f"skill {test['skill']['mae']:+.2%} (MAE, p = {test['p_value']['mae']:#.2g})" in shown


def test_a_backtest_ends_with_a_summary(run: Run) -> None:
    shown = " ".join(run(*TABLED["backtest"]).stdout.split())

    assert re.search(r"[0-9.]+% (below|above) that of the no-change forecast \(p = [01]\.[0-9]+, (not )?signif", shown)
    assert re.search(r"Coverage: [0-9.]+% of closes in the 80% range", shown)


def test_a_long_backtest_is_a_job_and_prints_its_table(run: Run, target: list[str]) -> None:
    done = run(*target, "backtest", "^GSPC", "--start", "2001-01-02", "--horizon", "4")
    jobs = run(*target, "jobs", "list").stdout

    assert done.exit_code == 0, done.output
    assert re.search(r"Coverage: [0-9.]+% of closes in the 80% range", " ".join(done.stdout.split()))
    assert " backtest" in jobs


def test_train_shows_the_accuracy_of_the_model(run: Run, target: list[str]) -> None:
    done = run(*target, "train", "^GSPC", "--start", "2017-01-01", "--model", "ewma")

    assert done.exit_code == 0, done.output
    assert "ewma" in run(*target, "models", "list").stdout
    for heading in ("1 session ahead, ", "no change", "skill", "p-value"):
        assert heading in done.stdout


def test_train_as_json_prints_the_job(run: Run, target: list[str], server: str) -> None:
    printed = answered(run(*target, "train", "^GSPC", "--model", "ewma", "--start", "2017-01-01", "--json"))

    assert Job.model_validate(printed).state == "succeeded"
    assert printed == requests.get(f"{server}/jobs/{printed['id']}", timeout=30).json()


def test_a_failed_training_ends_with_its_error_and_can_be_retried(run: Run, target: list[str]) -> None:
    done = run(*target, "train", "^GSPC", "--model", "ewma", "--start", "2018-12-01", "--json")
    newest = answered(run("jobs", "list", "--limit", "1", "--json"))["jobs"][0]

    again = run(*target, "jobs", "retry", newest["id"], "--json")
    watched = run(*target, "jobs", "watch", newest["id"])

    assert [done.exit_code, again.exit_code, watched.exit_code] == [4, 4, 4]
    assert "error: insufficient_history" in done.stderr
    assert newest["state"] == "failed"


def test_a_training_on_a_server_is_not_followed_with_no_wait(run: Run, server: str) -> None:
    # two seconds of work, cancelled as soon as it is accepted; spares the worker the import of torch
    slow = ["--model", "gradient_boosting", "--start", "2000-01-01"]
    job = answered(run("--url", server, "train", "^GSPC", *slow, "--no-wait", "--json"))

    cancelled = run("--url", server, "jobs", "cancel", job["id"])
    watched = run("--url", server, "jobs", "watch", job["id"])

    assert job["state"] == "queued"
    assert cancelled.exit_code == 0
    assert watched.exit_code == 4
    assert "job_cancelled" in watched.stderr


def test_a_job_is_shown(run: Run, target: list[str], model_id: str, server: str) -> None:
    jobs = requests.get(f"{server}/jobs", timeout=30).json()["jobs"]
    job = next(job for job in jobs if job["model_id"] == model_id)

    shown = run(*target, "jobs", "show", job["id"])

    assert "succeeded" in shown.stdout
    assert model_id in shown.stdout


def test_a_name_is_moved_and_shown(run: Run, target: list[str], model_id: str) -> None:
    moved = run(*target, "models", "alias", "best", model_id)

    assert moved.exit_code == 0, moved.output
    assert model_id in run(*target, "models", "aliases").stdout


def test_a_model_is_deleted_only_with_consent(run: Run, target: list[str]) -> None:
    model_id = answered(run("train", "^GSPC", "--model", "drift", "--start", "2017-01-01", "--json"))["model_id"]

    refused = run(*target, "models", "delete", model_id)
    agreed = run(*target, "models", "delete", model_id, "--yes")

    assert refused.exit_code == 1
    assert agreed.exit_code == 0, agreed.output
    assert run(*target, "models", "show", model_id).exit_code == 3


@pytest.mark.parametrize("command", ["forecast", "backtest", "analyze"])
def test_a_plot_is_drawn_in_addition_to_the_answer(run: Run, target: list[str], tmp_path: Path, command: str) -> None:
    done = run(*target, *TABLED[command], "--plot", tmp_path / "drawn.png")

    assert done.exit_code == 0, done.output
    assert (tmp_path / "drawn.png").read_bytes().startswith(PNG)
    assert done.stdout == run(*target, *TABLED[command]).stdout


def test_the_api_key_of_the_settings_is_not_needed_in_this_process(run: Run) -> None:
    done = run("models", "list", API_KEY="a-key-of-more-than-twenty-characters")

    assert done.exit_code == 0, done.output
