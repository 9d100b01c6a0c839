"""Routes of models over HTTP: legacy contract v1's bodies, and every way to ask wrongly."""

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from errors import PricesRateLimited
from models.fitting import NETWORK
from services.storage.registry import CARD, ModelRegistry, model_key
from services.training import work
from services.training.train import TrainedModel
from tests.fakes import FailingPriceSource, FailingStore, InMemoryArtifactStore, use_prices, use_registry

# as legacy contract v1's clients send it
ANCESTORS_TRAINING = {
    "ticker": "WALK",
    "start_date": "2010-01-04",
    "end_date": "2011-12-20",
    "train_size": 0.8,
    "sequence_length": 20,
    "target_column": "Close",
    "epochs": 1,
    "patience": 5,
}


def problem(answer: Any) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code", "request_id"} <= set(body)
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_the_first_ancestors_training_request_stores_a_model_that_predicts(client: TestClient) -> None:
    trained = client.post("/models/train", json=ANCESTORS_TRAINING)
    model_id = trained.json()["result"]["id"]

    predicted = client.post(f"/models/{model_id}/predict")

    assert trained.status_code == 200
    assert len(predicted.json()["prediction"]) == 1


@pytest.mark.parametrize("body", [None, {}, {"levels": [0.9]}])
def test_predict_takes_no_body_an_empty_one_or_levels(client: TestClient, model_id: str, body: object) -> None:
    answer = client.post(f"/models/{model_id}/predict", json=body)

    assert answer.status_code == 200
    assert {"ticker", "currency", "last_close", "last_session", "target_session", "persistence", "test"} <= set(
        answer.json()
    )


def test_forecast_answers_the_sessions_asked_for(client: TestClient, model_id: str) -> None:
    answer = client.post(f"/models/{model_id}/forecast", json={"horizon": 30, "levels": [0.5]}).json()

    assert [step["step"] for step in answer["forecast"]] == list(range(1, 31))
    assert all(step["intervals"][0]["level"] == 0.5 for step in answer["forecast"])


def test_fetch_data_answers_in_the_first_ancestors_columns(client: TestClient) -> None:
    answer = client.post("/models/fetch-data", json={"ticker": "walk", "days": 2}).json()

    assert answer["ticker"] == "WALK"
    assert [set(bar) for bar in answer["data"]] == [{"Date", "Open", "High", "Low", "Close", "Volume"}] * 2


def test_a_model_is_listed_shown_and_deleted(client: TestClient, model_id: str) -> None:
    listed = client.get("/models", params={"ticker": "WALK"}).json()["models"]
    shown = client.get(f"/models/{model_id}").json()
    deleted = client.delete(f"/models/{model_id}")

    assert [model["id"] for model in listed] == [model_id]
    assert shown["model_id"] == model_id
    assert deleted.status_code == 204
    assert problem(client.get(f"/models/{model_id}"))["code"] == "model_not_found"


@pytest.mark.parametrize(
    "wrong",
    [
        {"ticker": "NOT A TICKER"},
        {"ticker": ""},
        {"ticker": "../../etc/passwd"},
        {"ticker": "A" * 25},
        {"ticker": None},
        {"tickers": ["WALK", "OTHER"]},
        {"ticker": None, "tickers": ["WALK"]},
        {"ticker": None, "tickers": ["WALK", "walk"]},
        {"base_model_id": "../x"},
        {"ticker": 5},
        {"start_date": "2011-01-01", "end_date": "2010-01-01"},
        {"start_date": "2010-01-04", "end_date": "2010-01-04"},
        {"end_date": "2024-07-21"},
        {"start_date": "2999-01-01", "end_date": None},
        {"start_date": "yesterday"},
        {"train_size": 0},
        {"train_size": 1},
        {"train_size": -0.1},
        {"train_size": 80},
        {"train_size": "NaN"},
        {"sequence_length": 9},
        {"sequence_length": 251},
        {"sequence_length": 20.5},
        {"epochs": 0},
        {"epochs": 1001},
        {"patience": 0},
        {"patience": 101},
        {"max_seconds": 0},
        {"seed": -1},
        {"target_column": "Volume"},
        {"model": "crystal_ball"},
        {"unheard_of": 1},
    ],
)
def test_a_malformed_training_request_names_the_field(refusing: TestClient, wrong: dict[str, object]) -> None:
    body = problem(refusing.post("/models/train", json={**ANCESTORS_TRAINING, **wrong}))

    assert (body["status"], body["code"]) == (422, "malformed_request")
    assert body["errors"]


def test_a_date_that_is_today_somewhere_on_earth_is_not_in_the_future(client: TestClient) -> None:
    tomorrow_in_utc = {"ticker": "WALK", "start_date": "2010-01-04", "end_date": "2024-07-20"}

    assert client.post("/models/fetch-data", json=tomorrow_in_utc).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"horizon": 0},
        {"horizon": 31},
        {"levels": []},
        {"levels": [0]},
        {"levels": [1]},
        {"levels": [80]},
        {"levels": [0.8, 0.8]},
        {"levels": [0.5] * 11},
        {"as_of": "2999-01-01"},
    ],
)
def test_a_malformed_forecast_request_is_refused(client: TestClient, model_id: str, wrong: dict[str, object]) -> None:
    assert problem(client.post(f"/models/{model_id}/forecast", json=wrong))["status"] == 422


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"days": 0},
        {"days": 20_001},
        {"start_date": "2010-01-04"},
        {"end_date": "2010-01-04"},
        {"days": 5, "start_date": "2010-01-04", "end_date": "2010-01-05"},
        {"start_date": "2010-01-05", "end_date": "2010-01-04"},
    ],
)
def test_a_malformed_request_for_prices_is_refused(client: TestClient, wrong: dict[str, object]) -> None:
    assert problem(client.post("/models/fetch-data", json={"ticker": "WALK", **wrong}))["status"] == 422


@pytest.mark.parametrize(
    "bad_id", ["..%2Fx", "%2e%2e", "..%2F..%2Fetc%2Fpasswd", "A", "a_b", "a--b", "-a", "x" * 65, "a.b", "%00"]
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_is_no_id_reaches_no_store(client: TestClient, method: str, bad_id: str) -> None:
    answer = client.request(method, f"/models/{bad_id}")

    assert problem(answer)["code"] == "malformed_request"


@pytest.mark.parametrize("name", [CARD, NETWORK])
def test_a_flipped_byte_is_500_artifact_corrupt_and_no_forecast(
    client: TestClient, store: InMemoryArtifactStore, model_id: str, name: str
) -> None:
    content = bytearray(store.get(model_key(model_id, name)))
    content[0] ^= 1  # a digit of a card would be another card
    store.put(model_key(model_id, name), bytes(content))

    body = problem(client.post(f"/models/{model_id}/predict"))

    assert (body["status"], body["code"]) == (500, "artifact_corrupt")
    assert "prediction" not in body


def test_a_model_that_a_denied_store_does_not_take_is_503_and_lost(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "PUBLISH_WITHIN_S", 0.0)
    use_registry(app, ModelRegistry(FailingStore()))

    body = problem(client.post("/models/train", json=ANCESTORS_TRAINING))

    assert (body["status"], body["code"]) == (503, "store_unavailable")
    assert f"{body['model_id']!r} is lost" in body["detail"]


def test_a_rate_limited_source_is_503_with_its_retry_after(client: TestClient, app: FastAPI) -> None:
    use_prices(app, FailingPriceSource(PricesRateLimited("yahoo asks us to slow down", retry_after_s=17)))

    answer = client.post("/models/fetch-data", json={"ticker": "WALK", "days": 1})

    assert problem(answer)["code"] == "prices_rate_limited"
    assert answer.headers["retry-after"] == "17"


def test_an_unexpected_failure_is_an_opaque_500_with_an_id(
    client: TestClient, app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    use_prices(app, FailingPriceSource(ValueError("secret path /srv/keys")))

    answer = client.post("/models/fetch-data", json={"ticker": "WALK", "days": 1}, headers={"X-Request-Id": "mine-1"})

    assert problem(answer)["status"] == 500
    assert "secret" not in answer.text
    assert "mine-1" in caplog.text
    assert "secret path" in caplog.text


def test_a_backtest_answers_the_model_beside_its_opponents(client: TestClient, model_id: str) -> None:
    answer = client.post(f"/models/{model_id}/backtest", json={"horizon": 2, "stride": 5}).json()

    assert answer["model_report"]["name"] == "return_lstm"
    assert "persistence" in {baseline["name"] for baseline in answer["baselines"]}
    assert [step["step"] for step in answer["model_report"]["steps"]] == [1, 2]
    assert answer["forecasts"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"horizon": 0},
        {"horizon": 31},
        {"stride": 0},
        {"refit_every": 1},
        {"quantile_levels": []},
        {"quantile_levels": [0.5, 0.5]},
        {"quantile_levels": [1.0]},
        {"start": "2011-01-01", "end": "2010-01-01"},
        {"end": "2999-01-01"},
        {"levels": [1]},
    ],
)
def test_a_malformed_backtest_is_refused(refusing: TestClient, model_id: str, wrong: dict[str, object]) -> None:
    assert problem(refusing.post(f"/models/{model_id}/backtest", json=wrong))["status"] == 422


def test_an_alias_takes_the_place_of_an_id(client: TestClient, model_id: str) -> None:
    moved = client.put("/models/aliases/champion", json={"model_id": model_id})

    assert (moved.status_code, moved.json()["model_id"]) == (200, model_id)
    assert client.get("/models/aliases").json()["aliases"][0]["alias"] == "champion"
    assert client.get("/models/champion").json()["model_id"] == model_id
    assert client.post("/models/champion/predict").status_code == 200


@pytest.mark.parametrize("alias", ["Champion", "a1", "-a", "a_b", "x" * 33])
def test_a_name_that_could_be_an_id_is_no_alias(client: TestClient, model_id: str, alias: str) -> None:
    assert problem(client.put(f"/models/aliases/{alias}", json={"model_id": model_id}))["status"] == 422


@pytest.mark.parametrize("path", ["ticker/M&M.NS", "ticker%2FM%26M.NS", "ticker/M%26M.NS"])
def test_the_alias_of_a_ticker_is_an_address_with_a_slash_encoded_or_not(
    client: TestClient, model_id: str, path: str
) -> None:
    moved = client.put(f"/models/aliases/{path}", json={"model_id": model_id})

    assert (moved.status_code, moved.json()["alias"]) == (200, "ticker/M&M.NS")
    assert client.get("/models/aliases").json()["aliases"][0]["alias"] == "ticker/M&M.NS"
    assert client.get(f"/models/{path}").json()["model_id"] == model_id
    assert client.get(f"/models/aliases/{path}/evaluations").json() == {"evaluations": [], "next_after": None}
    assert client.put("/models/aliases/copy", json={"model_id": "ticker/M&M.NS"}).json()["model_id"] == model_id


def test_a_model_named_by_its_ticker_forecasts_and_backtests_that_ticker(
    client: TestClient, app: FastAPI, trained: TrainedModel, default: str
) -> None:
    app.state.runtime.registry.publish(trained.card.model_copy(update={"model_id": "own-1"}), trained.files)
    client.put("/models/aliases/ticker/OTHER", json={"model_id": "own-1"})

    forecast = client.post("/models/ticker/OTHER/forecast").json()
    backtest = client.post("/models/ticker%2FOTHER/backtest", json={"horizon": 1, "stride": 5}).json()
    unset = client.post("/models/ticker/SHORT/predict").json()

    assert (forecast["ticker"], forecast["model_id"], forecast["alias"]) == ("OTHER", "own-1", "ticker/OTHER")
    assert (backtest["ticker"], backtest["model_id"]) == ("OTHER", "own-1")
    assert (unset["ticker"], unset["model_id"], unset["alias"]) == ("SHORT", default, "default")


@pytest.mark.parametrize(
    "alias", ["ticker/", "ticker/walk", "ticker/A B", "ticker/%2E%2E", "ticker/" + "A" * 25, "Ticker"]
)
def test_a_name_that_no_ticker_has_is_no_alias(client: TestClient, model_id: str, alias: str) -> None:
    answer = client.put(f"/models/aliases/{alias}", json={"model_id": model_id})

    assert answer.status_code in (405, 422)
    assert client.get("/models/aliases").json() == {"aliases": []}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "default/evaluations", 405),
        ("PUT", "ticker/WALK/evaluations", 405),
        ("PUT", "a/b", 405),
        ("POST", "ticker/WALK", 405),
        ("POST", "default", 405),
        ("PUT", "ticker/WALK/more", 405),
        ("GET", "ticker/evaluations", 200),  # of a plain alias that is called so
        ("GET", "ticker/ticker/evaluations", 422),
        ("DELETE", "ticker/WALK", 405),
        ("GET", "default", 405),
    ],
)
def test_other_addresses_below_the_aliases_answer_as_before(
    client: TestClient, method: str, path: str, status: int
) -> None:
    assert client.request(method, f"/models/aliases/{path}", json=None).status_code == status


def test_deleting_takes_an_id_and_no_alias_of_a_ticker(client: TestClient, model_id: str) -> None:
    client.put("/models/aliases/ticker/WALK", json={"model_id": model_id})

    assert problem(client.delete("/models/ticker/WALK"))["code"] == "malformed_request"
    assert client.get(f"/models/{model_id}").status_code == 200


def test_the_card_of_a_ticker_without_any_model_is_not_found(client: TestClient) -> None:
    assert problem(client.get("/models/ticker/M&M.NS"))["code"] == "model_not_found"


def test_an_alias_cannot_be_moved_to_nothing(client: TestClient) -> None:
    assert problem(client.put("/models/aliases/champion", json={"model_id": "no-such-1"}))["code"] == "model_not_found"


def test_a_model_in_use_is_not_deleted(client: TestClient, model_id: str) -> None:
    client.put("/models/aliases/champion", json={"model_id": model_id})

    assert problem(client.delete(f"/models/{model_id}"))["code"] == "model_in_use"


def test_several_tickers_train_one_model(client: TestClient) -> None:
    body = {**ANCESTORS_TRAINING, "ticker": None, "tickers": ["WALK", "OTHER"], "model": "volatility_regression"}

    result = client.post("/models/train", json=body).json()["result"]

    assert result["tickers"] == ["WALK", "OTHER"]
    assert result["id"].startswith("pooled-")
