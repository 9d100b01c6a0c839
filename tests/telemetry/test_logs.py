import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = """
import logging
from fastapi.testclient import TestClient
from app import app
from tests.fakes import use_registry

client = TestClient(app, raise_server_exceptions=False)
client.get("/up", headers={"X-Request-Id": "request-1"})
client.post("/predict", json={"prices": [31.37] * 60}, headers={"X-API-Key": "hunter2-hunter2-hunter2"})
client.get("/models/unknown-1", headers={"X-API-Key": "correct-horse-battery-staple"})
use_registry(app, None)
client.get("/models", headers={"X-API-Key": "correct-horse-battery-staple", "X-Request-Id": "request-2"})
"""


def logged(tmp_path: Path, log_format: str) -> list[str]:
    environment = os.environ | {
        "DATA_DIR": str(tmp_path),
        "PRICE_SOURCE": "sample",
        "LOG_FORMAT": log_format,
        "API_KEY": "correct-horse-battery-staple",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SOURCE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.splitlines()


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return [json.loads(line) for line in logged(tmp_path_factory.mktemp("logs"), "json")]


def test_every_request_is_logged_with_route_status_duration_and_id(records: list[dict[str, object]]) -> None:
    first = next(record for record in records if record.get("request_id") == "request-1")

    assert (first["method"], first["endpoint"], first["status"]) == ("GET", "/up", 200)
    assert isinstance(first["duration_ms"], float)


def test_routes_are_named_by_their_templates(records: list[dict[str, object]]) -> None:
    assert "/models/{model_id}" in [record.get("endpoint") for record in records]
    assert not any("unknown-1" in str(record.get("endpoint")) for record in records)


def test_an_unexpected_failure_is_logged_with_its_traceback_and_its_request(records: list[dict[str, object]]) -> None:
    (failure,) = [record for record in records if record["level"] == "ERROR"]

    assert failure["request_id"] == "request-2"
    assert "AttributeError" in str(failure["exception"])


def test_neither_secrets_nor_prices_are_logged(records: list[dict[str, object]]) -> None:
    text = json.dumps(records)

    assert "hunter2" not in text
    assert "correct-horse" not in text
    assert "31.37" not in text


def test_plain_text_lines_have_time_level_and_request_id(tmp_path: Path) -> None:
    lines = logged(tmp_path, "text")

    (line,) = [line for line in lines if "GET /up 200" in line]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO: ", line)
    assert line.endswith("[request-1]")
