"""The work of a night, from a terminal: score, check drift, retrain, forget."""

import os
import re
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path

import pytest

from cli.nightly import next_time, sign_of_life
from services.monitoring.forecast_log import record_key
from services.storage.store import LocalArtifactStore
from tests.cli.conftest import Run
from tests.cli.test_realised import on, walk
from tests.fakes import forecast_record
from tests.processes import dies_with_us, wait_until

__all__ = ["walk"]

ROOT = Path(__file__).parents[2]
LONG_AGO = date(2020, 1, 2)


def test_the_next_time_is_later_today_or_tomorrow() -> None:
    at = time_of_day(23, 30)

    assert next_time(at, datetime(2026, 3, 1, 12, tzinfo=UTC)) == datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    assert next_time(at, datetime(2026, 3, 1, 23, 30, tzinfo=UTC)) == datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
    assert next_time(at, datetime(2026, 12, 31, 23, 45, tzinfo=UTC)) == datetime(2027, 1, 1, 23, 30, tzinfo=UTC)


def test_a_sign_of_life_lasts_for_a_while(tmp_path: Path) -> None:
    file = tmp_path / "alive"

    sign_of_life(file, timedelta(minutes=2))
    sign_of_life(None, timedelta(minutes=2))

    assert 100 < file.stat().st_mtime - time.time() <= 120


def without_times(output: str) -> list[str]:
    return [line for line in output.splitlines() if " took " not in line]


@pytest.mark.parametrize("at", ["24:00", "9:00", "23:60", "noon", "23:30\n"])
def test_a_time_of_day_that_is_none_is_refused(run: Run, at: str) -> None:
    assert run("nightly", "--every-day-at", at).exit_code == 2


@pytest.mark.slow
def test_a_night_scores_retrains_what_drifted_and_forgets(run: Run, walk: Path) -> None:
    store = LocalArtifactStore(walk)
    old = forecast_record("WALK", LONG_AGO, [LONG_AGO + timedelta(days=1)], 100.0)
    store.create(record_key(old), old.model_dump_json().encode())

    first = on(run, walk, "nightly", "--max-retrainings", "1")
    n_jobs = len(list((walk / "jobs").iterdir()))
    second = on(run, walk, "nightly", "--max-retrainings", "1")

    assert first.exit_code == second.exit_code == 0, first.output + second.output
    lines = without_times(first.stdout)
    assert lines[0] == "scored 1 forecast of 1 session"
    assert lines[1] == "drift: 0 ok, 0 warning, 1 drifted, 0 unknown"
    assert re.match(r"WALK: trained walk-\S+, which is (now its model|no better than its model)", lines[2]), lines
    assert lines[3:] == ["published the forecasts of 1 ticker; 0 failed"]
    assert [line.partition(" took ")[0] for line in first.stdout.splitlines() if " took " in line] == [
        "fetching",
        "scoring and drift",
        "retraining",
        "forecasting",
    ]
    assert without_times(second.stdout)[0] == "scored 0 forecasts of 0 sessions"
    assert len(list((walk / "jobs").iterdir())) == n_jobs  # at most one training a session
    assert not store.exists(record_key(old))


@pytest.mark.slow
def test_a_night_without_retrainings_trains_nothing(run: Run, walk: Path) -> None:
    done = on(run, walk, "nightly", "--max-retrainings", "0")

    assert done.exit_code == 0, done.output
    assert not (walk / "jobs").exists()


@pytest.mark.slow
def test_what_a_night_has_published_is_shown(run: Run, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path / "night"), "NIGHTLY_TICKERS": "^IXIC,NOPE"}

    before = run("latest", **settings)
    night = run("nightly", **settings)
    table, steps, none = (run("latest", *more, **settings) for more in ((), ("^ixic", "--steps"), ("XX",)))

    assert before.exit_code == 3
    assert "NIGHTLY_TICKERS" in before.stderr
    assert night.exit_code == 0, night.output
    assert "NOPE has no forecast: ticker_not_found" in night.stdout
    assert "^IXIC" in table.stdout
    assert "no change" in table.stdout
    assert "2019-01-02" in table.stdout
    assert "a newer session has closed than these forecasts know: run `nightly`" in table.stdout
    assert "NOPE has no forecast" in table.stdout
    assert steps.stdout.count("2019-01") == 20
    assert none.exit_code == 3


@pytest.mark.slow
def test_a_phase_that_fails_keeps_no_other_from_being_done(run: Run, tmp_path: Path) -> None:
    done = run("nightly", DATA_DIR=str(tmp_path / "night"), NIGHTLY_TICKERS="NOPE")

    assert done.exit_code == 3
    assert "scored 0 forecasts of 0 sessions" in done.stdout
    assert "forecasting failed: no ticker could be forecast" in done.stdout
    assert done.stderr.startswith("error: ticker_not_found")


@pytest.mark.slow
def test_forget_says_what_it_deleted(run: Run, walk: Path) -> None:
    old = forecast_record("WALK", LONG_AGO, [LONG_AGO + timedelta(days=1)], 100.0)
    LocalArtifactStore(walk).create(record_key(old), old.model_dump_json().encode())

    never = run("forget", PRICE_SOURCE="csv", DATA_DIR=str(walk), RETENTION_DAYS="0")
    done = on(run, walk, "forget")

    assert never.stdout.startswith("nothing is ever deleted")
    assert done.stdout.endswith("1 in forecasts/\n")


@pytest.mark.slow
def test_the_loop_works_at_its_start_signs_that_it_lives_and_outlives_a_server_that_is_down(tmp_path: Path) -> None:
    alive, log = tmp_path / "alive", tmp_path / "log"
    command = [sys.executable, "-m", "cli", "--url", "http://127.0.0.1:9", "nightly"]
    environment = {"PATH": os.environ["PATH"], "LOG_FORMAT": "json", "HOME": str(tmp_path)}

    with log.open("w") as output:
        loop = subprocess.Popen(
            [*dies_with_us(), *command, "--every-day-at", "03:00", "--alive-file", str(alive)],
            cwd=ROOT,
            env=environment,
            stderr=output,
        )
    try:
        wait_until(lambda: "next run at" in log.read_text(), 60, "the end of the first run")
        assert loop.poll() is None
    finally:
        loop.terminate()
        loop.wait(10)

    assert alive.stat().st_mtime > time.time()
    assert '"message":"the night failed: ' in log.read_text()
    assert '"message":"scoring and drift failed: ' in log.read_text()
