import json
import logging
import re
import sys
from pathlib import Path

import pytest

from telemetry.logs import TEXT, _TextFormatter
from tests.forked_servers import ForkedServers

SOURCE = """
import logging
import warnings
from fastapi.testclient import TestClient
from app import app
from tests.fakes import use_registry

warnings.simplefilter("ignore")
client = TestClient(app, raise_server_exceptions=False)
client.get("/up", headers={"X-Request-Id": "request-1"})
client.post("/predict", json={"prices": [31.37] * 60}, headers={"X-API-Key": "hunter2-hunter2-hunter2"})
client.get("/models/unknown-1", headers={"X-API-Key": "correct-horse-battery-staple"})
use_registry(app, None)
client.get("/models", headers={"X-API-Key": "correct-horse-battery-staple", "X-Request-Id": "request-2"})
"""


def logged(servers: ForkedServers, folder: Path, log_format: str, log_level: str = "info") -> list[str]:
    settings = {
        "DATA_DIR": str(folder),
        "PRICE_SOURCE": "sample",
        "LOG_FORMAT": log_format,
        "LOG_LEVEL": log_level,
        "API_KEY": "correct-horse-battery-staple",
    }
    printed = folder / "printed"
    with printed.open("wb") as log:
        process = servers.start(settings, log, source=SOURCE, folder=folder)
        assert process.wait(60) == 0, printed.read_text()
    return printed.read_text().splitlines()


@pytest.fixture(scope="module")
def records(servers: ForkedServers, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return [json.loads(line) for line in logged(servers, tmp_path_factory.mktemp("logs"), "json")]


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


def test_only_records_of_the_level_and_above_are_logged(servers: ForkedServers, tmp_path: Path) -> None:
    levels = [json.loads(line)["level"] for line in logged(servers, tmp_path, "json", "ERROR")]

    assert levels == ["ERROR"]


def test_plain_text_lines_have_time_level_and_request_id(servers: ForkedServers, tmp_path: Path) -> None:
    lines = logged(servers, tmp_path, "text")

    (line,) = [line for line in lines if "GET /up 200" in line]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO: ", line)
    assert line.endswith("[request-1]")


HOSTILE = [
    "a\n2026-01-01 00:00:00,000 INFO: forged",
    "a\r2026-01-01 00:00:00,000 INFO: forged",
    "\x1b[2K\x1b[1A\x1b[31mred",
    "a\u2028forged",
    "\x9b31mred",
    "\u202eforged",
    "\x00\x08\x7f",
]


def formatted(record: logging.LogRecord) -> str:
    return _TextFormatter(TEXT).format(record)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_field_of_a_record_can_forge_a_line_or_steer_a_terminal(hostile: str) -> None:
    by_argument = logging.makeLogRecord({"msg": "failed: %s", "args": (hostile,), "levelname": "INFO"})
    by_message = logging.makeLogRecord({"msg": hostile, "levelname": "INFO", "request_id": "request-1"})

    for line in (formatted(by_argument), formatted(by_message)):
        assert line.isprintable()
        assert len(line.splitlines()) == 1


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_message_of_an_exception_can_forge_a_line(hostile: str) -> None:
    try:
        raise ValueError(hostile)  # noqa: TRY301
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": sys.exc_info()})
    record.stack_info = f"Stack (most recent call last):\n{hostile}"

    first, *rest = formatted(record).split("\n")
    assert "ERROR: failed" in first
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)


def test_letters_of_every_alphabet_are_logged_as_they_are() -> None:
    record = logging.makeLogRecord({"msg": "Ação – 株価 📈", "levelname": "INFO"})

    assert "Ação – 株価 📈" in formatted(record)
