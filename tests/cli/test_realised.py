"""Forecasts against what happened, from a terminal: logged, scored, checked for drift, retrained."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import Result

from cli.layout import console
from cli.realised_tables import evaluations_table
from models.base import CLOSE, HIGH, LOW
from schemas.realised import ForecastRecord
from services.monitoring.forecast_log import record_key
from services.prices.calendars import last_completed_session, sessions_between
from services.storage.store import LocalArtifactStore
from stock_forecast_client.models import ChallengerEvaluation, EvaluationPage
from tests.cli.conftest import Run
from tests.fakes import forecast_record, random_walk

pytestmark = pytest.mark.slow

EPISODE_ROWS = 5  # the last week is wilder than any before


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    """A folder with the prices of WALK up to the last session, and a forecast of that session made before it."""
    now = datetime.now(UTC)
    last = last_completed_session("XNYS", now)
    sessions = sessions_between("XNYS", last - timedelta(days=900), last)
    bars = random_walk(len(sessions))
    bars[-EPISODE_ROWS:, HIGH] = 1.1 * bars[-EPISODE_ROWS:, CLOSE]
    bars[-EPISODE_ROWS:, LOW] = bars[-EPISODE_ROWS:, CLOSE] / 1.1
    folder = tmp_path / "var"
    (folder / "prices").mkdir(parents=True)
    with (folder / "prices" / "WALK.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["Date", "Open", "High", "Low", "Close", "Volume"])
        rows.writerows([str(day), *bar] for day, bar in zip(sessions, bars.tolist(), strict=True))
    close = float(bars[-2, CLOSE])
    origin, session = (day.item() for day in sessions[-2:])
    bundled = "bundled-20210421-00000001"
    record = forecast_record("WALK", origin, [session], close, half=0.5 * close, model_id=bundled)
    LocalArtifactStore(folder).create(record_key(record), record.model_dump_json().encode())
    return folder


def on(run: Run, folder: Path, *arguments: object) -> Result:
    return run(*arguments, PRICE_SOURCE="csv", DATA_DIR=str(folder))


def test_a_local_forecast_is_logged(run: Run, walk: Path) -> None:
    done = on(run, walk, "forecast", "WALK", "--horizon", "3")

    logged = sorted(path.name for path in (walk / "forecasts").rglob("*_03_*.json"))
    assert done.exit_code == 0, done.output
    assert len(logged) == 1


def test_a_forecast_is_scored_once_and_shown_with_the_no_change_forecast(run: Run, walk: Path) -> None:
    first, second = on(run, walk, "score"), on(run, walk, "score")
    shown = on(run, walk, "accuracy", "WALK")

    assert [first.exit_code, second.exit_code, shown.exit_code] == [0, 0, 0]
    assert "scored 1 forecast of 1 session" in first.stdout
    assert "no forecast session has closed since" in second.stdout
    assert shown.stdout.count("no change") == 2  # of MAPE, and of CRPS
    assert "100.0%" in shown.stdout


def test_accuracy_without_scores_says_what_to_do(run: Run, walk: Path) -> None:
    shown = on(run, walk, "accuracy")

    assert shown.exit_code == 0
    assert "no forecasts have been scored since" in shown.stdout


def test_drift_ends_with_1_where_the_status_is_drifted(run: Run, walk: Path) -> None:
    shown = on(run, walk, "drift", "WALK")
    printed = on(run, walk, "drift", "WALK", "--json")

    assert [shown.exit_code, printed.exit_code] == [1, 1]
    assert json.loads(printed.stdout)["reports"][0]["status"] == "drifted"
    assert "WALK: ranges of the last 5 sessions are" in shown.stdout


def test_a_ticker_that_fails_ends_the_command_with_its_error(run: Run, walk: Path) -> None:
    (walk / "prices" / "WALK.csv").unlink()

    judged, scored = on(run, walk, "drift", "WALK"), on(run, walk, "score")

    assert [judged.exit_code, scored.exit_code] == [3, 3]
    assert "WALK could not be checked: ticker_not_found" in judged.stdout
    assert "WALK was not scored: ticker_not_found" in scored.stdout


def test_a_session_that_never_traded_is_named_and_ends_with_0(run: Run, walk: Path) -> None:
    (record,) = (walk / "forecasts").rglob("*.json")
    forecast = ForecastRecord.model_validate_json(record.read_bytes())
    origin, session = (str(forecast.origin), str(forecast.steps[0].session))
    prices = walk / "prices" / "WALK.csv"
    prices.write_text("".join(line for line in prices.read_text().splitlines(True) if not line.startswith(origin)))
    closed = forecast.steps[0].model_copy(update={"session": forecast.origin})
    earlier = forecast.model_copy(update={"origin": forecast.origin - timedelta(days=7), "steps": (closed,)})
    LocalArtifactStore(walk).create(record_key(earlier), earlier.model_dump_json().encode())

    first, second = on(run, walk, "score"), on(run, walk, "score")

    assert [first.exit_code, second.exit_code] == [0, 0]
    assert f"WALK was not scored for {origin}: session_not_traded" in first.stdout.replace("\n", " ")
    assert session not in second.stdout
    assert "session_not_traded" not in second.stdout


def test_drift_trains_a_challenger_whose_evaluation_is_shown(run: Run, walk: Path) -> None:
    champion = json.loads(on(run, walk, "train", "WALK", "--model", "ewma", "--json").stdout)["model_id"]
    on(run, walk, "models", "alias", "mine", champion)

    done = on(run, walk, "retrain", "WALK", "--alias", "mine", "--json")
    shown = on(run, walk, "models", "evaluations", "mine")

    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["job"]["state"]) == ("drifted", "succeeded")
    assert f"champion {champion}" in " ".join(shown.stdout.split())
    assert "no change" in shown.stdout
    assert "the alias mine: " in on(run, walk, "jobs", "show", answer["job"]["id"]).stdout


def test_a_challenger_on_a_server_is_not_followed_with_no_wait(run: Run, server: str) -> None:
    here = run("retrain", "^GSPC", "--no-wait")
    there = run("--url", server, "retrain", "^GSPC", "--no-only-on-drift", "--no-wait", "--json")

    job = json.loads(there.stdout)["job"]
    cancelled = run("--url", server, "jobs", "cancel", job["id"])
    again = run("--url", server, "retrain", "^GSPC", "--no-only-on-drift")
    assert here.exit_code == 2
    assert job["request"]["promote_to"] == "ticker/^GSPC"
    assert cancelled.exit_code == 0
    assert again.exit_code == 4  # until a newer session it is the same job
    assert "job_cancelled" in again.stderr


def test_an_evaluation_that_failed_has_a_reason_and_no_scores() -> None:
    evaluation = ChallengerEvaluation(
        alias="default",
        job_id="20261121t093000-1a2b3c4d",
        champion_id=None,
        challenger_id="walk-20261121-1a2b3c4d",
        tickers=[],
        horizon=5,
        won=False,
        reason="no evaluation: 3 common origins are too few",
        at=datetime(2026, 11, 21, tzinfo=UTC),
    )
    page = console()

    with page.capture() as shown:
        page.print(evaluations_table(EvaluationPage(evaluations=[evaluation], next_after=evaluation.job_id)))

    assert "no evaluation: 3 common origins are too few" in shown.get()
    assert "CRPS" not in shown.get()
    assert f"more: --after {evaluation.job_id}" in shown.get()
