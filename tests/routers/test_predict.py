"""Forecasts by symbol over HTTP: every way to ask, and every way to ask wrongly."""

import json
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bootstrap import bundled_model
from errors import PricesRateLimited
from schemas.batch import MAX_SYMBOLS
from services.monitoring.forecast_log import ForecastLog
from services.storage import ttl_cache
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from tests.fakes import (
    FailingPriceSource,
    FakePriceSource,
    UnreliableStore,
    random_walk,
    use_prices,
    use_registry,
    walk_history,
)
from tests.routers.conftest import NOW

LOOKBACK = 20
PRICES = random_walk(LOOKBACK)[:, 3].tolist()
BODIES: dict[str, dict[str, object]] = {
    "/predict": {"prices": PRICES},
    "/predict/live": {"symbol": "WALK"},
    "/predict/forecast": {"symbol": "WALK"},
    "/predict/batch": {"symbols": ["WALK"]},
}
ROUTES = pytest.mark.parametrize("path", BODIES)


@pytest.fixture
def app(app: FastAPI, trained: TrainedModel) -> FastAPI:
    """With a default model of its own."""
    app.state.runtime.registry.move_alias("default", trained.card.model_id, NOW)
    return app


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    return body


@ROUTES
def test_every_answer_names_its_model_and_its_accuracy(client: TestClient, model_id: str, path: str) -> None:
    body = client.post(path, json=BODIES[path]).json()

    assert (body["model_id"], body["model"], body["target_column"]) == (model_id, "return_lstm", "Close")
    assert body["test"]["persistence"]["mape"] > 0
    assert {one["n_origins"] for one in body["test"]["coverage"]} == {body["test"]["n_origins"]}
    assert body["timestamp"] == "2024-07-19T22:00:00Z"
    assert body["inference_time_ms"] > 0


def test_every_forecast_of_a_symbol_names_its_market_and_explains_its_width(
    client: TestClient, app: FastAPI, model_id: str
) -> None:
    use_prices(app, FakePriceSource(walk_history(), walk_history("^GSPC", seed=1)))

    answers = [
        client.post("/predict/live", json=BODIES["/predict/live"]).json(),
        client.post("/predict/forecast", json=BODIES["/predict/forecast"]).json(),
        client.post("/predict/batch", json=BODIES["/predict/batch"]).json()["results"][0]["result"],
        client.post(f"/models/{model_id}/predict").json(),
        client.post(f"/models/{model_id}/forecast").json(),
    ]

    as_of = walk_history().as_of.isoformat()
    assert [one["inputs"] for one in answers] == [{"market": "^GSPC", "as_of": as_of, "implied_volatility": None}] * 5
    (explanation,) = {json.dumps(one["explanation"]) for one in answers}
    explained = json.loads(explanation)
    change = 100 * (explained["expected_move_pct"] / explained["usual_move_pct"] - 1)
    assert set(explained["parts"]) == {"own", "market", "calibration"}
    assert sum(explained["parts"].values()) == pytest.approx(change, abs=0.02)  # of rounded figures
    assert "usual for WALK" in explained["sentence"]


def test_closes_sent_along_have_no_market_and_no_usual_move(client: TestClient) -> None:
    body = client.post("/predict", json={"prices": PRICES}).json()

    assert body["inputs"] == {"market": None, "as_of": None, "implied_volatility": None}
    assert body["explanation"].pop("expected_move_pct") > 0
    assert body["explanation"].pop("sentence").endswith("too few to say what is usual.")
    assert body["explanation"] == {"usual_move_pct": None, "parts": None}


@pytest.mark.parametrize("path", ["/predict", "/predict/live"])
def test_a_prediction_stands_inside_its_intervals_beside_persistence(client: TestClient, path: str) -> None:
    body = client.post(path, json={**BODIES[path], "levels": [0.9, 0.5]}).json()

    narrow, wide = body["intervals"]
    assert (narrow["level"], wide["level"]) == (0.5, 0.9)
    assert wide["lower"] < narrow["lower"] < body["predicted_price"] < narrow["upper"] < wide["upper"]
    assert body["persistence"] == body["last_known_price"]


def test_prices_sent_along_say_so_and_no_more(client: TestClient) -> None:
    body = client.post("/predict", json={"prices": PRICES}).json()

    assert (body["source"], body["symbol"], body["currency"], body["stale"]) == ("request", "N/A", None, None)
    assert (body["prediction_for_date"], body["last_data_date"]) == ("N/A", "N/A")
    assert body["warnings"] == []


def test_prices_of_another_symbol_than_the_models_are_warned_of(client: TestClient) -> None:
    body = client.post("/predict", json={"symbol": "petr4.sa", "prices": PRICES}).json()

    assert body["symbol"] == "PETR4.SA"
    assert body["warnings"] == ["the model was fitted and tested on WALK, not on PETR4.SA"]


def test_a_live_prediction_says_where_its_prices_are_from(client: TestClient) -> None:
    body = client.post("/predict/live", json={"symbol": "WALK"}).json()

    assert (body["source"], body["currency"], body["stale"]) == ("fake", "USD", False)
    assert body["last_data_date"] == walk_history().as_of.isoformat()
    assert body["prediction_for_date"] > body["last_data_date"]


@pytest.mark.parametrize("days", [1, 30])
def test_a_forecast_has_as_many_days_as_asked(client: TestClient, days: int) -> None:
    body = client.post("/predict/forecast", json={"symbol": "WALK", "days": days}).json()

    assert body["forecast_days"] == days
    assert [day["day"] for day in body["forecast"]] == list(range(1, days + 1))
    assert all(len(day["intervals"]) == 2 for day in body["forecast"])
    assert sorted(day["date"] for day in body["forecast"]) == [day["date"] for day in body["forecast"]]


@ROUTES
def test_a_model_may_be_named_by_its_id(client: TestClient, app: FastAPI, model_id: str, path: str) -> None:
    assert client.post(path, json={**BODIES[path], "model_id": model_id}).json()["model_id"] == model_id


@pytest.fixture
def champion(client: TestClient, app: FastAPI, trained: TrainedModel) -> str:
    """WALK's own model."""
    app.state.runtime.registry.publish(trained.card.model_copy(update={"model_id": "own-1"}), trained.files)
    assert client.put("/models/aliases/ticker/WALK", json={"model_id": "own-1"}).status_code == 200
    return "own-1"


@pytest.mark.parametrize("path", ["/predict/live", "/predict/forecast"])
def test_a_symbol_is_forecast_by_its_own_model_unless_another_is_named(
    client: TestClient, model_id: str, champion: str, path: str
) -> None:
    def answer(**more: object) -> tuple[str, str | None]:
        body = client.post(path, json={"symbol": "WALK", **more}).json()
        return body["model_id"], body["alias"]

    assert answer() == answer(model_id=None) == answer(model_id="ticker/WALK") == (champion, "ticker/WALK")
    assert answer(symbol="OTHER") == answer(model_id="default") == (model_id, "default")
    assert answer(model_id=champion) == (champion, None)


def test_each_symbol_of_a_batch_says_which_model_answered(client: TestClient, model_id: str, champion: str) -> None:
    body = client.post("/predict/batch", json={"symbols": ["OTHER", "WALK", "NOPE"]}).json()

    answered = [(one["result"]["model_id"], one["result"]["alias"]) for one in body["results"][:2]]
    assert answered == [(model_id, "default"), (champion, "ticker/WALK")]
    assert (body["model_id"], body["alias"]) == (model_id, "default")


@pytest.mark.usefixtures("champion")
def test_closes_that_a_caller_sends_are_forecast_by_the_default(client: TestClient, model_id: str) -> None:
    body = client.post("/predict", json={"symbol": "WALK", "prices": PRICES}).json()

    assert (body["model_id"], body["alias"]) == (model_id, "default")


def test_a_symbol_whose_own_model_is_broken_is_forecast_by_the_default_with_a_warning(
    client: TestClient, app: FastAPI, model_id: str, champion: str
) -> None:
    app.state.runtime.store.delete(f"models/{champion}/metadata.json")
    use_registry(app, ModelRegistry(app.state.runtime.registry.store))

    body = client.post("/predict/live", json={"symbol": "WALK"}).json()

    assert body["model_id"] == model_id
    assert any("'ticker/WALK'" in warning for warning in body["warnings"])


def test_a_batch_keeps_the_order_and_each_failure_to_itself(client: TestClient) -> None:
    symbols = ["SHORT", "NOPE", "WALK", "X.UNKNOWN"]

    answer = client.post("/predict/batch", json={"symbols": symbols, "days": 2})

    results = answer.json()["results"]
    assert answer.status_code == 200
    assert [one["symbol"] for one in results] == symbols
    assert [one["result"] is None for one in results] == [False, True, False, True]
    assert [one["error"]["code"] for one in results if one["error"]] == ["ticker_not_found"] * 2
    assert all(len(one["result"]["forecast"]) == 2 for one in results if one["result"])


def test_a_symbols_part_of_a_batch_is_its_own_forecast(client: TestClient) -> None:
    alone = client.post("/predict/forecast", json={"symbol": "WALK", "days": 3}).json()

    body = client.post("/predict/batch", json={"symbols": ["SHORT", "WALK"], "days": 3}).json()

    part = body["results"][1]["result"]
    assert part == {key: alone[key] for key in part}


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("model", ["trained", "bundled"])
def test_every_route_gives_a_symbol_one_interval(
    client: TestClient, app: FastAPI, model_id: str, model: str, *, batch_first: bool
) -> None:
    bundled = ModelRegistry(app.state.runtime.registry.store, bundled_model(app.state.runtime.settings))
    use_registry(app, bundled)
    chosen = model_id if model == "trained" else str(bundled.bundled and bundled.bundled.model_id)

    def batch() -> object:
        body = {"symbols": ["OTHER", "WALK"], "model_id": chosen}
        return client.post("/predict/batch", json=body).json()["results"][1]["result"]["forecast"][0]["intervals"]

    def alone() -> list[object]:
        symbol, ticker = {"symbol": "WALK", "model_id": chosen}, {"ticker": "WALK"}
        return [
            client.post("/predict/live", json=symbol).json()["intervals"],
            client.post("/predict/forecast", json=symbol | {"days": 5}).json()["forecast"][0]["intervals"],
            client.post(f"/models/{chosen}/predict", json=ticker).json()["intervals"],
            client.post(f"/models/{chosen}/forecast", json=ticker).json()["forecast"][0]["intervals"],
        ]

    found = [batch(), *alone()] if batch_first else [*alone(), batch()]

    assert found == [found[0]] * 5


def test_a_batch_outlives_a_rate_limited_source(client: TestClient, app: FastAPI) -> None:
    use_prices(app, FailingPriceSource(PricesRateLimited("yahoo asks us to slow down", retry_after_s=17)))

    (one,) = client.post("/predict/batch", json={"symbols": ["WALK"]}).json()["results"]

    detail = "yahoo asks us to slow down"
    assert one["error"] == {"code": "prices_rate_limited", "detail": detail, "status": 503, "did_you_mean": None}


def test_the_largest_batch_fits_into_an_answer_of_lambda(client: TestClient, app: FastAPI) -> None:
    symbols = [f"S{number:03}" for number in range(MAX_SYMBOLS)]
    use_prices(
        app,
        FakePriceSource(
            *(replace(one, series=replace(one.series, ticker=symbol)) for one in [walk_history()] for symbol in symbols)
        ),
    )

    answer = client.post("/predict/batch", json={"symbols": symbols, "days": 26, "levels": [0.5, 0.8, 0.95]})

    assert all(one["result"] for one in answer.json()["results"])
    assert len(answer.content) < 4_500_000


@pytest.mark.parametrize(
    ("path", "wrong", "field"),
    [
        *(
            ("/predict", {"prices": prices}, "prices")
            for prices in ([], PRICES[1:], [*PRICES, 1.0], None, "1,2", [[1]])
        ),
        *(("/predict", {"prices": [*PRICES[1:], price]}, "prices") for price in (0, -1, None, "x", 1e13, 1e-13)),
        ("/predict", {"symbol": "NOT A TICKER"}, "symbol"),
        ("/predict/live", {"symbol": None}, "symbol"),
        ("/predict/live", {"symbol": "../../etc/passwd"}, "symbol"),
        ("/predict/live", {"days": 5}, "days"),
        ("/predict/forecast", {"days": 0}, "days"),
        ("/predict/forecast", {"days": 31}, "days"),
        ("/predict/forecast", {"days": 2.5}, "days"),
        ("/predict/batch", {"symbols": []}, "symbols"),
        ("/predict/batch", {"symbols": ["WALK", "walk"]}, "body"),
        ("/predict/batch", {"symbols": ["WALK", "a b"]}, "symbols"),
        ("/predict/batch", {"symbols": "WALK"}, "symbols"),
        ("/predict/batch", {"symbols": [f"S{k}" for k in range(MAX_SYMBOLS + 1)]}, "symbols"),
        ("/predict/batch", {"symbols": [f"S{k}" for k in range(500)], "days": 30, "levels": [0.5, 0.8, 0.9]}, "body"),
        ("/predict/batch", {"days": 31}, "days"),
        *((path, {"levels": levels}, "levels") for path in BODIES for levels in ([], [1], [80], [0.8, 0.8], None)),
        *(
            (path, {"model_id": name}, "model_id")
            for path in BODIES
            for name in ("", "../x", "A", "x" * 65, "ticker/x")
        ),
        *((path, {"unheard_of": 1}, "unheard_of") for path in BODIES),
    ],
)
def test_a_malformed_body_names_the_field(
    refusing: TestClient, path: str, wrong: dict[str, object], field: str
) -> None:
    body = problem(refusing.post(path, json={**BODIES[path], **wrong}), 422, "malformed_request")

    assert any(field in error["field"] for error in body["errors"])


def test_a_wrong_number_of_prices_is_told_with_the_right_one(client: TestClient) -> None:
    body = problem(client.post("/predict", json={"prices": PRICES[1:]}), 422, "malformed_request")

    assert body["errors"] == [{"field": "prices", "message": "expected 20 items, found 19"}]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-0.0"])
def test_a_price_that_is_no_positive_number_is_refused(client: TestClient, number: str) -> None:
    content = json.dumps({"prices": PRICES[1:]}).replace("]", f", {number}]")

    answer = client.post("/predict", content=content, headers={"Content-Type": "application/json"})

    problem(answer, 422, "malformed_request")


@ROUTES
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(refusing: TestClient, path: str, content: bytes) -> None:
    answer = refusing.post(path, content=content, headers={"Content-Type": "application/json"})

    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@ROUTES
def test_an_unknown_model_is_404(client: TestClient, path: str) -> None:
    problem(client.post(path, json={**BODIES[path], "model_id": "no-such-model"}), 404, "model_not_found")


@pytest.mark.parametrize("path", ["/predict/live", "/predict/forecast"])
def test_too_short_a_history_is_409_with_needed_and_found(client: TestClient, app: FastAPI, path: str) -> None:
    use_prices(app, FakePriceSource(walk_history("NEW", n_sessions=5)))

    body = problem(client.post(path, json={"symbol": "NEW"}), 409, "insufficient_history")

    assert (body["needed"], body["found"]) == (20, 5)


def test_prices_that_never_move_are_409_by_name(client: TestClient) -> None:
    body = problem(client.post("/predict", json={"prices": [7.5] * LOOKBACK}), 409, "constant_series")

    assert "the last 20 prices are all 7.5" in body["detail"]


def test_with_the_store_down_answers_keep_coming(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttl_cache, "TTL_S", 0.0)
    store = UnreliableStore()
    use_registry(app, ModelRegistry(store, bundled_model(app.state.runtime.settings)))
    app.state.runtime.forecast_log = ForecastLog(store, app.state.runtime.writer)
    first = client.post("/predict/live", json={"symbol": "WALK"})

    store.down = True
    later = [client.post("/predict/live", json={"symbol": "WALK"}) for _ in range(3)]
    app.state.runtime.writer.flush()

    assert [answer.status_code for answer in (first, *later)] == [200] * 4


@pytest.fixture
def store_down(app: FastAPI, default: str) -> None:
    use_registry(app, ModelRegistry(UnreliableStore(down=True), bundled_model(app.state.runtime.settings)))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", {"prices": [30 + 0.1 * n for n in range(60)]}),
        ("/predict/live", {"symbol": "WALK"}),
        ("/predict/forecast", {"symbol": "WALK", "days": 3}),
        ("/models/default/predict", {"ticker": "WALK"}),
        ("/predict/batch", {"symbols": ["WALK"]}),
        ("/models/default/forecast", {"ticker": "WALK", "horizon": 3}),
    ],
)
@pytest.mark.usefixtures("store_down")
def test_with_the_store_down_from_the_start_the_bundled_model_answers_and_says_so(
    client: TestClient, path: str, body: dict[str, object]
) -> None:
    answer = client.post(path, json=body)

    found = answer.json() if path != "/predict/batch" else answer.json()["results"][0]["result"]
    assert answer.status_code == 200
    assert found["warnings"][0].startswith("storage unavailable; serving bundled model 'bundled-")


@pytest.mark.usefixtures("store_down")
def test_with_the_store_down_a_model_that_was_named_is_not_replaced_by_another(client: TestClient) -> None:
    problem(client.post("/predict/live", json={"symbol": "WALK", "model_id": "walk-1"}), 503, "store_unavailable")
