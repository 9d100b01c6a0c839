import json
from collections.abc import Iterator
from typing import Any

import pytest

from telemetry.embedded import EmbeddedMeter
from telemetry.measures import (
    ACTIVE_REQUESTS,
    COLD_STARTS,
    COVERAGE_DEVIATION,
    COVERAGE_Z,
    DRIFT,
    MODEL_CACHE,
    REQUEST_SECONDS,
    REQUESTS,
    SCORING_RUNS,
    SKILL_Z,
    TRAINING_SECONDS,
    TRAININGS,
    UNSCORED_RATIO,
)


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> EmbeddedMeter:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Somewhere")
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "something")
    return EmbeddedMeter()


def flushed(meter: EmbeddedMeter, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    meter.flush()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 1
    document: dict[str, Any] = json.loads(lines[0]) if lines else {}
    return document


def values(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    for metric in directive["Metrics"]:
        yield metric["Name"], sum(document[metric["Name"]])


def test_the_measurements_of_an_event_are_one_line_in_the_embedded_format(
    meter: EmbeddedMeter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.record(COLD_STARTS)
    meter.record(REQUESTS, method="GET", endpoint="/up", status="200")
    meter.record(REQUEST_SECONDS, 0.25, method="GET", endpoint="/up")
    meter.record(MODEL_CACHE, outcome="hit")
    meter.record(MODEL_CACHE, outcome="hit")
    meter.record(MODEL_CACHE, outcome="miss")

    document = flushed(meter, capsys)

    assert dict(values(document)) == {
        "ColdStarts": 1,
        "Requests": 1,
        "RequestLatency": 250,
        "ModelCacheHits": 2,
        "ModelCacheMisses": 1,
    }
    assert document["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "Somewhere"
    assert document["service"] == "something"


@pytest.mark.parametrize(("status", "errors"), [("200", None), ("404", None), ("500", 1), ("503", 1)])
def test_only_server_errors_count_as_request_errors(
    meter: EmbeddedMeter, capsys: pytest.CaptureFixture[str], status: str, errors: int | None
) -> None:
    meter.record(REQUESTS, method="GET", endpoint="/up", status=status)

    assert dict(values(flushed(meter, capsys))).get("RequestErrors") == errors


def test_training_time_and_failed_trainings_are_published(
    meter: EmbeddedMeter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.record(TRAININGS, state="succeeded")
    meter.record(TRAININGS, state="failed")
    meter.record(TRAINING_SECONDS, 42)

    assert dict(values(flushed(meter, capsys))) == {"TrainingsFailed": 1, "TrainingSeconds": 42}


def test_flush_without_new_published_measurements_writes_nothing(
    meter: EmbeddedMeter, capsys: pytest.CaptureFixture[str]
) -> None:
    meter.record(ACTIVE_REQUESTS, 3)  # not published
    assert flushed(meter, capsys) == {}

    meter.record(COLD_STARTS)
    flushed(meter, capsys)
    assert flushed(meter, capsys) == {}


def test_what_was_promised_is_published(meter: EmbeddedMeter, capsys: pytest.CaptureFixture[str]) -> None:
    meter.record(SCORING_RUNS)
    for level, deviation in (("0.8", 0.125), ("0.95", 0.0)):
        meter.record(COVERAGE_DEVIATION, deviation, level=level)
        meter.record(COVERAGE_Z, -4.0, level=level)  # not published
    meter.record(SKILL_Z, -3.5, measure="mae")
    meter.record(SKILL_Z, 12.0, measure="crps")
    for status, count in (("ok", 7), ("warning", 2), ("drifted", 1)):
        meter.record(DRIFT, count, status=status)
    meter.record(UNSCORED_RATIO, 0.25)

    assert dict(values(flushed(meter, capsys))) == {
        "ScoringRuns": 1,
        "Coverage80Deviation": 0.125,
        "Coverage95Deviation": 0,
        "SkillZ": -3.5,
        "CrpsSkillZ": 12,
        "TickersDrifted": 1,
        "SessionsUnscored": 0.25,
    }
