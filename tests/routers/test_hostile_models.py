"""The routes over hostile stored models: ``artifact_corrupt``, and every other model and document as before."""

import logging
from datetime import date
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from onnx import helper

from models.fitting import NETWORK
from services.monitoring.scoring import scores_key
from services.storage.evaluations import evaluation_key
from services.storage.registry import CALIBRATION, CARD, model_key
from services.training.train import TrainedModel
from tests.fakes import InMemoryArtifactStore
from tests.hostile_models import answering, constant_network, hostile_cards, sealed, set_to, table

ROUTES = (
    "GET /models/{}",
    "GET /monitoring/model/info?model_id={}",
    *(f"POST /models/{{}}/{name}" for name in ("predict", "forecast", "backtest")),
)
NAMED = {"artifact_corrupt", "artifact_too_new"}


def codes(client: TestClient, model_id: str) -> set[str]:
    """The error codes with which the routes of a model answer; the status where one does not fail."""
    found = set()
    for route in ROUTES:
        method, path = route.format(model_id).split(" ")
        answer = client.request(method, path)
        found.add(answer.json().get("code", str(answer.status_code)))
    return found


def test_every_route_of_a_hostile_card_says_so(
    client: TestClient, app: FastAPI, trained: TrainedModel, store: InMemoryArtifactStore, model_id: str
) -> None:
    found = {}
    for name, content in [*hostile_cards(trained.card)][::4]:
        store.put(model_key(model_id, CARD), content)
        app.state.runtime.registry._cards.clear()
        app.state.runtime.registry._served.clear()
        found[name] = codes(client, model_id)

    assert {name: codes for name, codes in found.items() if not codes <= NAMED} == {}


@pytest.mark.parametrize("name", [NETWORK, CALIBRATION])
def test_every_forecast_of_a_hostile_file_says_so(
    client: TestClient, trained: TrainedModel, store: InMemoryArtifactStore, model_id: str, name: str
) -> None:
    hostile = {
        NETWORK: constant_network(table(set_to(float("nan"), 5, 7))),
        CALIBRATION: b"[" + b",".join([b"[" + b",".join([b"1e300"] * 100) + b"]"] * 30) + b"]",
    }
    files = {**trained.files, name: hostile[name]}
    for key, content in {**files, CARD: sealed(trained.card, files)}.items():
        store.put(model_key(model_id, key), content)

    answers = [client.post(f"/models/{model_id}/{route}") for route in ("predict", "forecast", "backtest")]

    assert [answer.json()["code"] for answer in answers] == ["artifact_corrupt"] * 3


def test_a_model_that_turns_hostile_after_its_trial_gives_no_number(
    client: TestClient, model_id: str, trained: TrainedModel, store: InMemoryArtifactStore
) -> None:
    """The trial is of ordinary prices; this network is sound for them, and answers NaN above a billion."""
    node = helper.make_node
    nodes = [
        node("Slice", ["bars", "start", "stop", "axes"], ["seen"]),
        node("Greater", ["seen", "limit"], ["high"]),
        node("Where", ["high", "nan", "zero"], ["sum"]),
    ]
    values = {"limit": 1e9, "nan": np.nan, "zero": 0.0}
    content = answering(nodes, {name: np.full((1, 1, 1), value) for name, value in values.items()})
    files = {**trained.files, NETWORK: content}
    for key, data in {**files, CARD: sealed(trained.card, files)}.items():
        store.put(model_key(model_id, key), data)
    client.put("/models/aliases/default", json={"model_id": model_id})

    def answer(factor: float) -> dict[str, Any]:
        prices = [factor * (100 + k % 7) for k in range(20)]
        return dict(client.post("/predict", json={"prices": prices}).json())

    assert "code" not in answer(1.0)
    assert answer(1e9)["code"] == "artifact_corrupt"


def test_one_damaged_document_of_each_list_is_named_and_hides_no_other(
    client: TestClient, default: str, store: InMemoryArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    day = date(2024, 7, 18)
    damaged = ("aliases/broken.json", evaluation_key("default", "20240718t000000-00000000"), scores_key("WALK", day))
    for key in damaged:
        store.put(key, b'{"alias": 1')

    with caplog.at_level(logging.WARNING):
        aliases = client.get("/models/aliases").json()
        evaluations = client.get("/models/aliases/default/evaluations").json()
        accuracy = client.get("/monitoring/accuracy").json()

    assert [alias["alias"] for alias in aliases["aliases"]] == ["default"]
    assert (evaluations["evaluations"], accuracy["accuracy"]) == ([], [])
    assert "documents_unreadable_total 2.0" in client.get("/metrics").text  # this registry has no meter
    assert all(key in caplog.text for key in damaged)
