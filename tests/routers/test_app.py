import os
import threading
import time
from datetime import UTC, datetime
from datetime import time as dt_time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bootstrap import Runtime
from services.monitoring.forecast_log import FORECASTS
from services.storage import write_behind
from tests.fakes import InMemoryArtifactStore, ListingExecutor, job_spec, walk_history
from tests.processes import wait_until


def test_up_is_ok(client: TestClient) -> None:
    assert client.get("/up").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_pages_load_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    page = client.get(path)

    assert page.status_code == 200
    assert "https://" not in page.text
    assert "//cdn" not in page.text


def test_the_pages_own_files_are_served(client: TestClient) -> None:
    page = client.get("/docs").text

    files = [part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert files
    assert all(client.get(file).status_code == 200 for file in files)


def test_every_route_has_a_summary_a_description_and_the_error_schema(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert operation["description"], (path, method)
            problem = operation["responses"]["500"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/Problem"}


def test_every_body_has_an_example(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            if "requestBody" in operation:
                assert "example" in str(operation["requestBody"]), path


def test_an_unknown_path_is_a_problem_too(client: TestClient) -> None:
    answer = client.get("/wp-login.php")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_a_method_that_is_not_allowed_says_which_are(client: TestClient) -> None:
    answer = client.put("/up")

    assert answer.json()["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD"


def test_a_body_above_the_limit_is_413(client: TestClient) -> None:
    answer = client.post("/models/fetch-data", content=b" " * 1_000_001, headers={"Content-Type": "application/json"})

    assert answer.json()["code"] == "request_too_large"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_body_that_does_not_announce_its_size_is_counted(client: TestClient) -> None:
    answer = client.post("/models/fetch-data", content=iter([b" " * 600_000] * 2))

    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("path", ["/up", "/health"])
def test_probes_answer_head_too(client: TestClient, path: str) -> None:
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("hostile", ["a\tb", "x" * 65, "a b", ""])
def test_a_request_id_that_could_forge_a_log_line_is_replaced(client: TestClient, hostile: str) -> None:
    given, other = (client.get("/up", headers={"X-Request-Id": hostile}).headers["x-request-id"] for _ in range(2))

    assert given not in (hostile, other)
    assert len(given) == 32


def test_a_callers_request_id_is_kept(client: TestClient) -> None:
    assert client.get("/up", headers={"X-Request-Id": "trace-7"}).headers["x-request-id"] == "trace-7"


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        (
            "/models/default/backtest",
            {"quantile_levels": [0] * 9000},
            "quantile_levels",
            "at most 99 items, found 9000",
        ),
        ("/models/default/predict", {"levels": [True] * 9000}, "levels", "at most 10 items, found 9000"),
        ("/models/train", {"tickers": [""] * 9000}, "tickers", "at most 20 items, found 9000"),
        ("/predict/batch", {"symbols": [""] * 9000}, "symbols", "at most 500 items, found 9000"),
        ("/predict", {"prices": ["a"] * 9000}, "prices", "at most 1000 items, found 9000"),
        ("/predict/live", {f"k{number}": 0 for number in range(5000)}, "body", "at most 50 fields, found 5000"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("/") else "",
)
def test_too_many_items_or_fields_are_one_error(
    client: TestClient, path: str, body: dict[str, object], field: str, message: str
) -> None:
    """pydantic would build an error for each, and block the event loop for seconds."""
    answer = client.post(path, json=body)

    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": field, "message": f"expected {message}"}]


EVENING = datetime.combine(walk_history().as_of, dt_time(23), UTC)  # after the last session of WALK


def test_a_server_that_ends_waits_for_the_record_that_is_being_written(
    app: FastAPI, default: str, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, create = threading.Event(), store.create

    def slow_create(key: str, data: bytes) -> bool:
        if key.startswith(FORECASTS):
            begun.set()
            time.sleep(0.5)
        return create(key, data)

    monkeypatch.setattr(store, "create", slow_create)
    app.state.runtime.clock = lambda: EVENING

    with TestClient(app) as client:
        assert client.post("/predict/live", json={"symbol": "WALK"}).status_code == 200
        assert begun.wait(10)

    assert len(store.list_keys(FORECASTS)) == 1


def test_a_server_ends_in_time_although_the_store_hangs(
    app: FastAPI, default: str, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "FLUSH_S", 0.5)
    begun, go_on = threading.Event(), threading.Event()

    def hang(key: str, data: bytes) -> bool:
        begun.set()
        return go_on.wait(60)

    monkeypatch.setattr(store, "create", hang)
    app.state.runtime.clock = lambda: EVENING

    with TestClient(app) as client:
        client.post("/predict/live", json={"symbol": "WALK"})
        assert begun.wait(10)
        ended_at = time.monotonic()

    assert time.monotonic() - ended_at < 10
    go_on.set()


def test_a_job_that_was_stored_although_the_store_reported_a_failure_is_taken_up(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.RESUME_EVERY_S", 0.05)
    runtime: Runtime = app.state.runtime
    runtime.executor = lane = ListingExecutor()
    now = runtime.clock()
    job = job_spec(f"{now:%Y%m%dt%H%M%S}-1a2b3c4d", now).model_copy(update={"executor": lane.name})

    with TestClient(app):
        time.sleep(0.2)  # what the start takes up is not what this is about
        runtime.jobs.add(job)

        wait_until(lambda: job.id in lane.submitted, 10, "the job is taken up")


def test_a_server_removes_the_temporary_files_of_killed_processes_when_it_starts(app: FastAPI) -> None:
    runtime: Runtime = app.state.runtime
    folder = runtime.settings.writable_dir / "models" / "gspc-1"
    folder.mkdir(parents=True)
    old, young = (folder / f".{digit * 32}.tmp" for digit in "ab")
    for file, age_s in ((old, 7200.0), (young, 60.0)):
        file.write_bytes(b"")
        changed_at = runtime.clock().timestamp() - age_s
        os.utime(file, (changed_at, changed_at))

    with TestClient(app):
        wait_until(lambda: not old.exists(), 10, "the old file is removed")

    assert young.exists()
