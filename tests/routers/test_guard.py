"""Who may call which route: keys with rights, and limits per caller."""

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from config import Settings
from routers.guard import GuardedRoute, include_guarded
from services.access import new_key
from services.quotas import Quotas
from telemetry.measures import CPU_BY_KEY, REQUESTS_BY_KEY
from tests.fakes import ManualClock, RecordingMeter, application
from tests.forked_servers import ForkedServers

ROOT = Path(__file__).parents[2]
READER, READS = new_key("reader", ["read"])
TRAINER, TRAINS = new_key("trainer", ["train"])
BOTH, DOES_BOTH = new_key("both", ["read", "train"])
ENTRIES = ",".join(key.entry for key in (READS, TRAINS, DOES_BOTH))

OPEN = {"GET /", "GET /up", "GET /health", "GET /metrics"}
CHANGES = {
    "POST /models/train",
    "DELETE /models/{model_id}",
    "PUT /models/aliases/{alias}",
    "DELETE /jobs/{job_id}",
    "POST /jobs/{job_id}/retry",
    "POST /runs",
    "POST /runs/{run_id}/cancel",
    "POST /runs/{run_id}/resume",
    "POST /forecasts/prices",
    "POST /forecasts/latest",
    "POST /monitoring/forget",
    "POST /monitoring/score",
    "POST /monitoring/retrain",
}
VALUES = {
    "model_id": "default",
    "alias": "default",
    "job_id": "20261121t093000-1a2b3c4d",
    "run_id": "20261121t093000-1a2b3c4d",
    "ticker": "^GSPC",
}


def guarded_app(tmp_path: Path, meter: RecordingMeter | None = None, **settings: object) -> FastAPI:
    chosen = {"data_dir": tmp_path, "price_source": "sample", **settings}
    return application(Settings.model_validate(chosen), meter=meter)


def send(client: TestClient, route: str, secret: str | None, **options: Any) -> Any:
    method, path = route.split(" ")
    headers = {} if secret is None else {"X-API-Key": secret}
    return client.request(method, path.format(**VALUES), headers=headers, **options)


ROUTES = {
    f"{method} {route.path_format}"
    for route in application(Settings(_env_file=None)).routes
    if isinstance(route, APIRoute) and route.include_in_schema
    for method in route.methods or ()
}
GUARDED = sorted(ROUTES - OPEN)
NEEDS_READ = sorted(ROUTES - OPEN - CHANGES)


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return guarded_app(tmp_path, api_keys=ENTRIES)


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app)


@pytest.fixture(scope="module", params=[None, "", "wrong", READS.digest.hex()], ids=["none", "empty", "wrong", "hash"])
def unknown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str | None, TestClient]:
    """What is no key, and one application that refuses it on every route: an address has 60 tries a minute."""
    return request.param, TestClient(guarded_app(tmp_path_factory.mktemp("refusing"), api_keys=ENTRIES))


@pytest.mark.parametrize("route", GUARDED)
def test_every_route_but_the_open_ones_needs_a_key(unknown: tuple[str | None, TestClient], route: str) -> None:
    secret, client = unknown

    answer = send(client, route, secret)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == 'APIKey header="X-API-Key"'


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"unknown": 1}', b"[" * 50_000, b" " * 1_000_000])
def test_no_body_is_read_before_the_key_is_checked(client: TestClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}

    assert client.post("/predict/live", content=body, headers=headers).status_code == 401
    headers["X-API-Key"] = TRAINER
    assert client.post("/predict/live", content=body, headers=headers).status_code == 403


@pytest.mark.parametrize("route", sorted(CHANGES))
def test_what_changes_state_or_trains_needs_the_right_train(client: TestClient, route: str) -> None:
    refused = send(client, route, READER)

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert refused.json()["missing_right"] == "train"
    assert refused.json()["detail"] == "this needs the right train; the key reader may read"
    assert [send(client, route, secret, json={}).status_code in (401, 403) for secret in (TRAINER, BOTH)] == [False] * 2


@pytest.mark.parametrize("route", NEEDS_READ)
def test_everything_else_needs_the_right_read(client: TestClient, route: str) -> None:
    refused = send(client, route, TRAINER)

    assert (refused.status_code, refused.json()["missing_right"]) == (403, "read")
    assert send(client, route, READER, json={"unknown": 1}).status_code not in (401, 403)


def test_a_backtest_that_refits_needs_the_right_train(client: TestClient) -> None:
    request = {"ticker": "^GSPC", "start": "2018-11-01", "horizon": 1}

    assert send(client, "POST /models/{model_id}/backtest", READER, json=request).status_code == 200
    refused = send(client, "POST /models/{model_id}/backtest", READER, json=request | {"refit_every": 5})
    assert (refused.status_code, refused.json()["missing_right"]) == (403, "train")


def test_a_key_of_api_key_beside_others_may_do_everything(tmp_path: Path) -> None:
    secret = "correct-horse-battery-staple"
    client = TestClient(guarded_app(tmp_path, api_keys=ENTRIES, api_key=secret))

    for route in GUARDED:
        assert send(client, route, secret, json={"unknown": 1}).status_code not in (401, 403), route
    assert send(client, "GET /models", READER).status_code == 200


def test_without_keys_everyone_may_do_everything(tmp_path: Path) -> None:
    client = TestClient(guarded_app(tmp_path))

    assert send(client, "GET /models", None).status_code == 200
    assert send(client, "POST /models/train", "some key", json={"unknown": 1}).status_code == 422


@pytest.mark.parametrize(
    ("settings", "status"),
    [({}, 503), ({"open": True}, 200), ({"api_keys": ENTRIES}, 401), ({"api_key": BOTH}, 401)],
    ids=["none", "open", "keys", "key"],
)
def test_a_function_without_a_key_answers_only_where_it_is_open(
    tmp_path: Path, settings: dict[str, Any], status: int
) -> None:
    client = TestClient(guarded_app(tmp_path, aws_lambda_function_name="serve", **settings))

    assert client.get("/models").status_code == status


# What the OpenAPI document says.


Operations = Mapping[str, Any]
"""Operations of the OpenAPI document by method and path."""


@pytest.fixture(scope="module")
def operations() -> Operations:
    paths = application(Settings(_env_file=None, api_keys=ENTRIES)).openapi()["paths"]
    return {f"{method.upper()} {path}": one for path, methods in paths.items() for method, one in methods.items()}


def test_the_document_has_every_route(operations: Operations) -> None:
    assert operations.keys() == ROUTES


@pytest.mark.parametrize("route", GUARDED)
def test_the_document_declares_the_right_and_the_errors_of_the_guard(route: str, operations: Operations) -> None:
    operation = operations[route]
    responses = operation["responses"]

    assert operation["security"] == [{"APIKeyHeader": ["train" if route in CHANGES else "read"]}]
    assert responses["401"]["description"] == "not_authenticated"
    assert "WWW-Authenticate" in responses["401"]["headers"]
    assert responses["403"]["description"] == "forbidden"
    assert "rate_limited" in responses["429"]["description"].split(", ")
    assert "Retry-After" in responses["429"]["headers"]
    assert "access_not_configured" in responses["503"]["description"].split(", ")


def test_the_document_of_a_server_without_keys_says_that_the_key_is_optional(tmp_path: Path) -> None:
    app = guarded_app(tmp_path)

    documents = [app.openapi()["paths"]["/models"]["get"]["security"] for _ in range(2)]

    assert documents == [[{"APIKeyHeader": ["read"]}, {}]] * 2


@pytest.mark.parametrize("route", sorted(OPEN))
def test_the_document_declares_no_key_for_open_routes(route: str, operations: Operations) -> None:
    assert "security" not in operations[route]
    assert not {"401", "403", "429"} & operations[route]["responses"].keys()


def test_a_router_without_the_guard_is_not_included(app: FastAPI) -> None:
    router = APIRouter()
    router.add_api_route("/leak", lambda: None, methods=["GET"])

    with pytest.raises(AssertionError, match="/leak"):
        include_guarded(app, router)


def test_a_new_route_needs_the_right_train_unless_it_says_otherwise() -> None:
    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/change", lambda: None, methods=["POST"])
    router.add_api_route("/both", lambda: None, methods=["GET", "POST"])

    assert [route.openapi_extra["security"][0]["APIKeyHeader"] for route in router.routes] == [["train"]] * 2  # type: ignore[attr-defined]


# Limits.


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def limited(app: FastAPI, clock: ManualClock, **limits: Any) -> None:
    app.state.runtime.quotas = Quotas(**limits, clock=clock)


def test_the_settings_limit_the_requests_of_a_key(tmp_path: Path) -> None:
    client = TestClient(guarded_app(tmp_path, api_keys=ENTRIES, rate_limit_requests=2))

    answers = [send(client, "GET /models", READER) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["RateLimit-Policy"] for answer in answers] == ['"requests";q=2;w=60'] * 3
    assert answers[0].headers["RateLimit"] == '"requests";r=1;t=30'
    assert answers[2].json()["code"] == "rate_limited"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30
    assert send(client, "GET /models", BOTH).status_code == 200


def test_two_secrets_of_one_name_share_a_limit(tmp_path: Path) -> None:
    (old, first), (new, second) = new_key("ci", ["read"]), new_key("ci", ["read"])
    client = TestClient(guarded_app(tmp_path, api_keys=f"{first.entry},{second.entry}", rate_limit_requests=1))

    assert [send(client, "GET /models", secret).status_code for secret in (old, new)] == [200, 429]


@pytest.mark.parametrize("route", ["GET /models/none-1", "POST /models/train", "POST /predict/live"])
def test_every_answer_states_the_limit_whatever_it_is(app: FastAPI, clock: ManualClock, route: str) -> None:
    limited(app, clock, requests_per_minute=10)

    answer = send(TestClient(app), route, READER, json={"unknown": 1})

    assert answer.status_code in (403, 404, 422)
    assert answer.headers["RateLimit"] == '"requests";r=9;t=6'


def test_open_routes_have_no_limit(app: FastAPI, clock: ManualClock) -> None:
    limited(app, clock, requests_per_minute=1)
    client = TestClient(app)

    answers = [client.get(path) for path in ("/", "/up", "/health", "/metrics", "/static/app.js", "/docs") * 3]

    assert {answer.status_code for answer in answers} == {200}
    assert not any("RateLimit" in answer.headers for answer in answers)


def test_requests_without_a_valid_key_use_up_no_limit(app: FastAPI, clock: ManualClock) -> None:
    limited(app, clock, requests_per_minute=1)
    client = TestClient(app)

    for _ in range(3):
        assert send(client, "GET /models", "wrong").status_code == 401
    assert send(client, "GET /models", READER).status_code == 200


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ("10.0.0.1", "10.0.0.1", 429),
        ("10.0.0.1", "10.0.0.2", 200),
        ("2001:db8::1", "2001:db8::ffff:1", 429),
        ("2001:db8::1", "2001:db8:0:1::1", 200),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", 200),
        ("::ffff:10.0.0.1", "10.0.0.1", 429),
    ],
)
def test_without_keys_each_address_has_a_limit(
    tmp_path: Path, clock: ManualClock, first: str, second: str, status: int
) -> None:
    app = guarded_app(tmp_path)
    limited(app, clock, requests_per_minute=1)

    answers = [TestClient(app, client=(address, 50_000)).get("/models").status_code for address in (first, second)]

    assert answers == [200, status]


def test_a_request_is_charged_for_the_cpu_time_of_its_thread(app: FastAPI, clock: ManualClock) -> None:
    limited(app, clock, cpu_s_per_minute=0.001)
    client = TestClient(app)
    backtest = {"ticker": "^GSPC", "start": "2018-11-01", "horizon": 1}

    first = send(client, "POST /models/{model_id}/backtest", READER, json=backtest)
    then = send(client, "GET /models", READER)

    assert first.status_code == 200
    assert (then.status_code, then.json()["unit"]) == (429, "seconds of CPU time")
    assert int(then.headers["Retry-After"]) > 60  # a backtest takes much more than a millisecond
    assert send(client, "GET /models", BOTH).status_code == 200
    clock.now += int(then.headers["Retry-After"])
    assert send(client, "GET /models", READER).status_code == 200


def test_a_request_that_fails_or_waits_is_charged_for_what_it_used(
    app: FastAPI, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(app, clock, cpu_s_per_minute=60)
    charged: list[float] = []
    monkeypatch.setattr(app.state.runtime.quotas, "charge", lambda caller, cpu_s: charged.append(cpu_s))

    class Prices:
        def history(self, ticker: str, now: object, recent: int | None = None) -> object:
            time.sleep(0.2)
            raise RuntimeError("no prices")

    app.state.runtime.shown_prices = Prices()
    client = TestClient(app, raise_server_exceptions=False)

    assert send(client, "POST /models/fetch-data", READER, json={"ticker": "A", "days": 1}).status_code == 500
    assert len(charged) == 1
    assert 0 < charged[0] < 0.1


# What logs and metrics show.


def test_the_log_and_the_metrics_name_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meter = RecordingMeter()
    client = TestClient(guarded_app(tmp_path, meter, api_keys=ENTRIES))

    with caplog.at_level(logging.INFO, logger="access"):
        send(client, "GET /models", READER)
        send(client, "POST /monitoring/score", READER)
        send(client, "GET /models", "wrong")
        client.get("/up")

    assert [getattr(record, "key", None) for record in caplog.records] == ["reader", "reader", None, None]
    assert [record.getMessage().endswith(" key reader") for record in caplog.records] == [True, True, False, False]
    assert meter.labels(REQUESTS_BY_KEY) == [{"key": "reader", "status": "200"}, {"key": "reader", "status": "403"}]
    assert meter.labels(CPU_BY_KEY) == [{"key": "reader"}]


def test_without_keys_no_metric_and_no_log_names_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meter = RecordingMeter()
    client = TestClient(guarded_app(tmp_path, meter))

    with caplog.at_level(logging.INFO, logger="access"):
        send(client, "GET /models", READER)

    assert not hasattr(caplog.records[-1], "key")
    assert meter.labels(REQUESTS_BY_KEY) + meter.labels(CPU_BY_KEY) == []


MARKER = "marker-secret-that-nobody-may-see-0123456789"


@pytest.fixture
def marked(servers: ForkedServers, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a real server, and the file of all that it prints; its keys are the marker and the reader's."""
    settings = {"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path / "var"), "API_KEY": MARKER, "API_KEYS": ENTRIES}
    with servers.running({**settings, "LOG_FORMAT": "json"}, tmp_path / "printed") as url:
        yield url, tmp_path / "printed"


@pytest.mark.slow
def test_no_secret_is_in_an_answer_a_log_a_metric_or_a_file(marked: tuple[str, Path], tmp_path: Path) -> None:
    url, printed = marked
    backtest = {"ticker": "^GSPC", "refit_every": 1, "start": "2018-12-01"}
    answers = [
        requests.request(method, url + path, headers={name: value}, timeout=60, **more)
        for value in (MARKER, READER, MARKER[:-1], f"Bearer {MARKER}")
        for name in ("X-API-Key", "Authorization")
        for method, path, more in (
            ("GET", "/models", {}),
            ("GET", "/openapi.json", {}),
            ("GET", "/metrics", {}),
            ("GET", "/models/none-1", {}),
            ("POST", "/predict/live", {"data": b"\xff{"}),
            ("POST", "/predict/live", {"json": {"unknown": 1}}),
            ("POST", "/models/default/backtest", {"json": backtest}),
            ("DELETE", "/models/none-1", {}),
            ("PATCH", "/models", {}),
            ("POST", "/models/train", {"data": b" " * 200_000}),
        )
    ]

    shown = "".join(answer.text + str(answer.headers) for answer in answers) + printed.read_text()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "var").rglob("*") if path.is_file())
    assert {answer.status_code for answer in answers} >= {200, 401, 403, 404, 405, 413, 422}
    assert '"key":"reader"' in re.sub(r'": "', '":"', printed.read_text())
    for secret in (MARKER, READER, MARKER[:-1]):
        assert secret not in shown
        assert secret.encode() not in stored


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({"API_KEYS": MARKER}, ["API_KEYS"]),
        ({"API_KEYS": f"ci:read:{MARKER}"}, ["API_KEYS"]),
        ({"API_KEYS": f"{MARKER}:read:{'a' * 64}", "API_KEY": "short-secret"}, ["API_KEY", "API_KEYS"]),
        ({"RATE_LIMIT_REQUESTS": "0", "RATE_LIMIT_CPU_S": "-1"}, ["RATE_LIMIT_REQUESTS", "RATE_LIMIT_CPU_S"]),
        ({"RATE_LIMIT_CPU_S": "nan"}, ["RATE_LIMIT_CPU_S"]),
    ],
)
def test_a_wrong_setting_ends_the_server_with_one_line_without_the_secret(
    servers: ForkedServers, tmp_path: Path, settings: dict[str, str], faults: list[str]
) -> None:
    printed = tmp_path / "printed"
    with printed.open("wb") as log:
        ended = servers.start(settings, log, folder=tmp_path)

    assert ended.wait(60) == 1
    shown = printed.read_text()
    assert [line.split(":")[0] for line in shown.splitlines()] == faults
    assert MARKER not in shown
    assert "short-secret" not in shown


def test_keys_are_in_no_representation_of_the_settings(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "api_keys": ENTRIES, "api_key": MARKER})

    shown = repr(settings) + settings.model_dump_json() + json.dumps(settings.model_dump(mode="json"))

    assert not any(text in shown for text in (MARKER, ENTRIES, READS.digest.hex()))
