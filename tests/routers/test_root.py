from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from models.fitting import NETWORK
from services.storage.registry import CARD, ModelRegistry, model_key
from tests.fakes import InMemoryArtifactStore, use_registry


def health(client: TestClient) -> dict[str, Any]:
    answer = client.get("/health")
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def test_root_names_the_service_its_version_and_the_time(client: TestClient, app: FastAPI) -> None:
    body = client.get("/").json()

    assert (body["service"], body["version"]) == (app.title, app.version)
    assert (body["status"], body["timestamp"]) == ("running", "2024-07-19T22:00:00Z")


def test_every_link_of_root_leads_somewhere(client: TestClient, default: str) -> None:
    links = client.get("/").json()["links"]

    assert {"docs", "redoc", "health"} <= set(links)
    assert {path: client.get(path).status_code for path in links.values()} == dict.fromkeys(links.values(), 200)


def test_health_is_ok_once_the_default_model_is_loaded(client: TestClient, default: str) -> None:
    body = health(client)

    assert (body["status"], body["model_loaded"], body["model_id"]) == ("ok", True, default)
    assert body["reasons"] == []
    assert body["timestamp"] == "2024-07-19T22:00:00Z"


def test_health_is_degraded_without_a_default_model(client: TestClient) -> None:
    body = health(client)

    assert (body["status"], body["model_loaded"], body["model_id"]) == ("degraded", False, None)
    assert [reason["code"] for reason in body["reasons"]] == ["model_not_found"]
    assert "default" in body["reasons"][0]["detail"]


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("name", [CARD, NETWORK])
def test_health_is_degraded_by_one_flipped_byte(
    client: TestClient, app: FastAPI, store: InMemoryArtifactStore, model_id: str, name: str
) -> None:
    content = bytearray(store.get(model_key(model_id, name)))
    content[0] ^= 1  # a digit of a card would be another card
    store.put(model_key(model_id, name), bytes(content))
    use_registry(app, ModelRegistry(store))  # one that has read nothing yet

    body = health(client)

    assert (body["status"], body["model_loaded"]) == ("degraded", False)
    assert [reason["code"] for reason in body["reasons"]] == ["artifact_corrupt"]
