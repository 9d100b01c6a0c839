import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app import VERSION
from config import Settings
from services.health import HealthCheck
from services.prices.measured import InstrumentedPriceSource
from services.storage.registry import ModelRegistry
from telemetry.embedded import EmbeddedMeter
from telemetry.measures import NO_METER
from tests.fakes import FakePriceSource, UnreliableStore, application, use_registry
from tests.routers.conftest import NOW

KEY = "a-key-of-twenty-characters"


def stats(client: TestClient) -> dict[str, Any]:
    answer = client.get("/monitoring/stats")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_metrics_count_requests(client: TestClient) -> None:
    client.get("/up")
    client.get("/models/none-1")
    client.get("/some/made-up/path")

    text = client.get("/metrics").text

    assert 'http_requests_total{endpoint="/up",method="GET",status="200"} 1.0' in text
    assert 'http_requests_total{endpoint="/models/{model_id}",method="GET",status="404"} 1.0' in text
    assert 'http_requests_total{endpoint="unmatched",method="GET",status="404"} 1.0' in text
    assert "made-up" not in text
    assert f'version="{VERSION}"' in text


def test_metrics_say_whether_the_default_model_can_answer(client: TestClient, app: FastAPI, model_id: str) -> None:
    without = client.get("/metrics").text
    app.state.runtime.registry.move_alias("default", model_id, NOW)

    assert "model_loaded 0.0" in without
    assert "model_loaded 1.0" in client.get("/metrics").text


def test_metrics_come_as_openmetrics_where_accepted(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_metrics_ask_for_no_key_and_figures_do(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, price_source="sample", api_key=SecretStr(KEY))
    with TestClient(application(settings)) as client:
        statuses = [client.get(path).status_code for path in ("/metrics", "/monitoring/stats")]

    assert statuses == [200, 401]


def test_on_lambda_metrics_say_where_measurements_go(client: TestClient, app: FastAPI) -> None:
    app.state.runtime.meter = EmbeddedMeter()

    answer = client.get("/metrics")

    assert (answer.status_code, answer.json()["code"]) == (501, "measured_elsewhere")
    assert "CloudWatch" in answer.json()["detail"]


def test_stats_have_every_field_of_legacy_contract_v2(client: TestClient, default: str) -> None:
    body = stats(client)

    assert body["timestamp"] == "2024-07-19T22:00:00Z"
    assert body["system"]["pid"] == os.getpid()
    assert body["system"]["memory_used_mb"] > 10
    assert body["system"]["memory_available_mb"] > 0
    assert body["system"]["cpu_usage_percent"] >= 0
    assert body["model"]["loaded"] is True
    assert body["model"]["load_time_ms"] > 0
    assert body["monitoring_endpoints"]["prometheus_metrics"] == "/metrics"
    assert body["monitoring_endpoints"]["model_info"] == "/monitoring/model/info"


def test_stats_count_requests(client: TestClient, default: str) -> None:
    before = stats(client)["traffic"]
    client.post("/predict/live", json={"symbol": "WALK"})
    client.get("/up")

    after = stats(client)["traffic"]

    assert after["requests"] - before["requests"] == 3  # the first of these two included
    assert after["predictions"] - before["predictions"] == 1
    assert after["active_requests"] == 1


def test_stats_say_that_there_is_no_default_model(client: TestClient) -> None:
    assert stats(client)["model"] == {"loaded": False, "model_id": None, "load_time_ms": None}


def test_stats_answer_where_measurements_go_elsewhere(client: TestClient, app: FastAPI) -> None:
    app.state.runtime.meter = NO_METER

    assert stats(client)["traffic"] is None


@pytest.mark.parametrize("name", ["default", None])
def test_model_info_is_of_the_default_model_or_the_one_asked_for(
    client: TestClient, default: str, name: str | None
) -> None:
    body = client.get("/monitoring/model/info", params={} if name else {"model_id": default}).json()

    assert (body["model_id"], body["symbol"], body["look_back_days"]) == (default, "WALK", 20)
    legacy = {key: value for key, value in body["test"]["model"].items() if key != "crps"}
    assert body["metrics_test"] == legacy
    assert body["data_splits"]["test"]["n_origins"] == body["test"]["n_origins"]
    assert body["test"]["step"] == 1
    assert body["model_load_time_ms"] > 0


@pytest.mark.parametrize(("model_id", "status"), [("none-1", 404), ("../secret", 422), ("x" * 65, 422)])
def test_model_info_of_no_model_is_refused(client: TestClient, model_id: str, status: int) -> None:
    assert client.get("/monitoring/model/info", params={"model_id": model_id}).status_code == status


def test_health_is_503_when_nothing_can_answer(client: TestClient, app: FastAPI) -> None:
    use_registry(app, ModelRegistry(UnreliableStore(down=True)))
    source = InstrumentedPriceSource(FakePriceSource(), NO_METER)
    app.state.runtime.health_check = HealthCheck(UnreliableStore(down=True), source, NO_METER)

    answer = client.get("/health")

    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert [reason["code"] for reason in answer.json()["reasons"]] == ["store_unavailable"]
    assert client.get("/up").status_code == 200
