"""Retraining over HTTP: when a job is submitted, that it is one, and how an alias comes back."""

from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bootstrap import bundled_model
from models.base import CLOSE, HIGH, LOW
from schemas.train import TrainRequest
from services.prices.series import PriceHistory
from services.storage.evaluations import evaluation_key
from services.storage.registry import ModelRegistry
from tests.fakes import FakePriceSource, InMemoryArtifactStore, history_of, random_walk, use_prices
from tests.routers.conftest import NOW

N_SESSIONS = 700


def walk(last_week_times: float) -> PriceHistory:
    """A walk whose ranges of the last five sessions are stretched."""
    bars = random_walk(N_SESSIONS)
    bars[-5:, HIGH] = bars[-5:, CLOSE] + last_week_times * (bars[-5:, HIGH] - bars[-5:, CLOSE])
    bars[-5:, LOW] = bars[-5:, CLOSE] / last_week_times
    return history_of(bars)


def quiet() -> PriceHistory:
    bars = random_walk(N_SESSIONS)
    bars[-5:, HIGH] = bars[-5:, LOW] = bars[-5:, 0] = bars[-5:, CLOSE] = bars[-6, CLOSE]
    return history_of(bars)


@pytest.fixture
def champion(client: TestClient) -> str:
    """A cheap model behind an alias of its own."""
    trained = client.post("/models/train", json={"ticker": "WALK", "model": "ewma", "sequence_length": 20})
    model_id: str = trained.json()["result"]["id"]
    client.put("/models/aliases/mine", json={"model_id": model_id})
    return model_id


@pytest.fixture
def _cheap_challengers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Challengers that need no torch."""
    monkeypatch.setattr("services.retrain.TrainRequest", partial(TrainRequest, model="persistence"))


def retrain(client: TestClient, **more: object) -> tuple[int, dict[str, Any]]:
    answer = client.post("/monitoring/retrain", json={"ticker": "WALK", "alias": "mine", **more})
    body: dict[str, Any] = answer.json()
    return answer.status_code, body


def test_without_drift_nothing_is_trained(app: FastAPI, client: TestClient, champion: str) -> None:
    use_prices(app, FakePriceSource(quiet()))

    status, answer = retrain(client)

    assert (status, answer["status"], answer["job"]) == (200, "ok", None)
    assert [job["model_id"] for job in client.get("/jobs").json()["jobs"]] == [champion]


@pytest.mark.usefixtures("_cheap_challengers")
def test_drift_submits_one_job_however_often_it_is_requested(app: FastAPI, client: TestClient, champion: str) -> None:
    use_prices(app, FakePriceSource(walk(last_week_times=4)))

    first_status, first = retrain(client)
    second_status, second = retrain(client)

    assert (first_status, second_status, first["status"]) == (202, 202, "drifted")
    assert first["job"]["id"] == second["job"]["id"]
    assert first["job"]["request"]["promote_to"] == "mine"
    assert first["job"]["state"] == "succeeded", first["job"]["error"]
    assert first["job"]["result"]["evaluation"]["champion_id"] == champion


@pytest.mark.usefixtures("_cheap_challengers")
def test_a_training_can_be_requested_without_drift_and_leaves_its_evidence(
    app: FastAPI, client: TestClient, champion: str
) -> None:
    use_prices(app, FakePriceSource(quiet()))

    status, answer = retrain(client, only_on_drift=False)

    assert (status, answer["status"]) == (202, "ok")
    evaluations = client.get("/models/aliases/mine/evaluations").json()
    assert evaluations == {"evaluations": [answer["job"]["result"]["evaluation"]], "next_after": None}


@pytest.mark.usefixtures("_cheap_challengers")
def test_a_ticker_is_retrained_for_itself_and_the_default_stays(
    app: FastAPI, client: TestClient, champion: str, store: InMemoryArtifactStore
) -> None:
    client.put("/models/aliases/default", json={"model_id": champion})
    use_prices(app, FakePriceSource(quiet()))

    answer = client.post("/monitoring/retrain", json={"ticker": "walk", "only_on_drift": False})

    job = answer.json()["job"]
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert job["request"]["promote_to"] == "ticker/WALK"
    evaluation = job["result"]["evaluation"]
    assert (evaluation["alias"], evaluation["champion_id"]) == ("ticker/WALK", champion)
    assert evaluation["tickers"] == ["WALK"]
    assert client.get("/models/default").json()["model_id"] == champion
    assert client.get("/models/aliases/default/evaluations").json()["evaluations"] == []


@pytest.mark.usefixtures("_cheap_challengers")
def test_the_default_is_challenged_only_where_the_request_says_so(
    app: FastAPI, client: TestClient, champion: str
) -> None:
    client.put("/models/aliases/default", json={"model_id": champion})
    use_prices(app, FakePriceSource(quiet()))

    own, everyone = (retrain(client, alias=alias, only_on_drift=False)[1]["job"] for alias in (None, "default"))

    assert own["id"] != everyone["id"]
    assert everyone["request"]["promote_to"] == "default"


def test_drift_is_of_the_model_that_answers_for_the_ticker(client: TestClient, app: FastAPI, champion: str) -> None:
    client.put("/models/aliases/ticker/WALK", json={"model_id": champion})
    use_prices(app, FakePriceSource(quiet()))

    def judged(query: str) -> str:
        report: dict[str, str] = client.get(f"/monitoring/drift?ticker=WALK{query}").json()["reports"][0]
        return report["model_id"]

    assert judged("") == judged("&model_id=ticker/WALK") == champion


def test_a_move_is_undone_by_putting_the_previous_model_back(client: TestClient, champion: str, model_id: str) -> None:
    moved = client.put("/models/aliases/mine", json={"model_id": model_id}).json()

    back = client.put("/models/aliases/mine", json={"model_id": moved["previous_model_id"]}).json()

    assert (back["model_id"], back["evidence"]) == (champion, None)
    assert client.get("/models/mine").json()["model_id"] == champion


def test_the_bundled_model_comes_back_by_its_id(app: FastAPI, store: InMemoryArtifactStore, model_id: str) -> None:
    registry = ModelRegistry(store, bundled_model(app.state.runtime.settings))
    bundled = registry.card("default").model_id
    moved = registry.move_alias("default", model_id, NOW, evaluation_key("default", "20240719t220000-1a2b3c4d"))

    assert moved.previous_model_id == bundled
    registry.move_alias("default", bundled, NOW)

    assert ModelRegistry(store, bundled_model(app.state.runtime.settings)).card("default").model_id == bundled


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "after=../x", "after=a"])
def test_a_malformed_page_of_evaluations_is_refused(client: TestClient, query: str) -> None:
    assert client.get(f"/models/aliases/default/evaluations?{query}").status_code == 422


@pytest.mark.parametrize(
    "wrong", [{"alias": "A"}, {"alias": "ticker/x"}, {"ticker": "../x"}, {"only_on_drift": "?"}, {"more": 1}]
)
def test_a_malformed_request_is_refused(client: TestClient, wrong: dict[str, object]) -> None:
    assert retrain(client, **wrong)[0] == 422
