"""Legacy contract v2's README, request by request: its clients must not notice the change."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict

from schemas.train import TrainRequest
from services.prices.calendars import next_sessions
from services.prices.cleaning import clean
from services.prices.series import PriceHistory
from services.training.train import TrainedModel, train_model
from tests.fakes import EMPTY_REGISTRY, FakePriceSource, random_walk, use_prices, walk_history

NOW = datetime(2024, 7, 19, 20, 30, 15, 987_654, tzinfo=UTC)

# verbatim, but for the prices that it leaves out
LIVE = """\
curl -X POST "http://localhost:8000/predict/live" \\
     -H "Content-Type: application/json" \\
     -d '{"symbol": "PETR4.SA"}'
"""
FORECAST = """\
curl -X POST "http://localhost:8000/predict/forecast" \\
     -H "Content-Type: application/json" \\
     -d '{"symbol": "PETR4.SA", "days": 5}'
"""
MANUAL = """\
curl -X POST "http://localhost:8000/predict" \\
     -H "Content-Type: application/json" \\
     -d '{"symbol": "PETR4.SA", "prices": [28.1, 28.3, 28.7, ...]}'
"""
TIMESTAMP = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


class OldClient(BaseModel):
    """A client that converts nothing and overlooks what it does not know."""

    model_config = ConfigDict(strict=True, extra="ignore")


class OldPrediction(OldClient):
    symbol: str
    predicted_price: float
    predicted_ratio: float
    reference_price: float
    last_known_price: float
    expected_change_pct: float
    prediction_for_date: str
    last_data_date: str
    inference_time_ms: float
    timestamp: str


class OldDay(OldClient):
    day: int
    date: str
    predicted_price: float
    expected_change_pct: float


class OldForecast(OldClient):
    symbol: str
    base_price: float
    base_date: str
    forecast_days: int
    forecast: list[OldDay]
    timestamp: str


class OldModelInfo(OldClient):
    symbol: str | None
    normalization: str
    target_description: str
    reconstruction: str
    tf_version: str | None
    hyperparameters: dict[str, object]
    metrics_test: dict[str, object]


class OldHealth(OldClient):
    status: str
    model_loaded: bool
    timestamp: str


@pytest.fixture(scope="module")
def default() -> TrainedModel:
    """A model that looks back 60 sessions, as legacy contract v2's did."""
    request = TrainRequest(ticker="WALK", epochs=1)
    return train_model(
        request, FakePriceSource(walk_history()), EMPTY_REGISTRY, "walk-60", NOW - timedelta(days=1), lambda _: None
    )


@pytest.fixture
def client(app: FastAPI, default: TrainedModel) -> Iterator[TestClient]:
    app.state.runtime.clock = lambda: NOW
    use_prices(app, FakePriceSource(petrobras()))
    app.state.runtime.registry.publish(default.card, default.files)
    app.state.runtime.registry.move_alias("default", default.card.model_id, NOW)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def petrobras() -> PriceHistory:
    """A random walk around 30 reais on São Paulo's true sessions up to the README's day."""
    listed = (date(2023, 7, 3), *next_sessions("BVMF", date(2023, 7, 3), 300))
    sessions = [session for session in listed if session <= date(2024, 7, 19)]
    series, defects = clean("PETR4.SA", sessions, random_walk(len(sessions), start=30.0), "BRL")
    return PriceHistory(series, source="fake", defects=defects)


def send(client: TestClient, curl: str) -> Any:
    """The JSON answer to a command of the README; ``...`` stands for prices up to the sixtieth."""
    path = re.findall(r'"http://localhost:8000(\S*)"', curl)[0]
    body = re.findall(r"-d '(.*)'", curl)[0]
    more = ", ".join(str(round(28.7 + 0.1 * (k % 7), 1)) for k in range(57))
    answer = client.post(path, content=body.replace("...", more), headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_live_names_the_readmes_dates(client: TestClient) -> None:
    answer = OldPrediction.model_validate(send(client, LIVE))

    assert (answer.last_data_date, answer.prediction_for_date) == ("2024-07-19", "2024-07-22")
    assert answer.timestamp == "2024-07-19T20:30:15Z"


def test_live_reconciles_price_ratio_and_change(client: TestClient) -> None:
    answer = OldPrediction.model_validate(send(client, LIVE))

    closes = petrobras().series.close
    assert answer.reference_price == pytest.approx(closes[-60], rel=1e-7)
    assert answer.last_known_price == pytest.approx(closes[-1], rel=1e-7)
    assert answer.predicted_ratio == pytest.approx(answer.predicted_price / answer.reference_price)
    change = 100 * (answer.predicted_price / answer.last_known_price - 1)
    assert answer.expected_change_pct == pytest.approx(change, abs=1e-4)


def test_forecast_answers_every_field_of_the_wire_contract(client: TestClient) -> None:
    answer = OldForecast.model_validate(send(client, FORECAST))

    assert (answer.symbol, answer.forecast_days, answer.base_date) == ("PETR4.SA", 5, "2024-07-19")
    assert [day.day for day in answer.forecast] == [1, 2, 3, 4, 5]
    assert [day.date for day in answer.forecast] == [f"2024-07-{day}" for day in (22, 23, 24, 25, 26)]
    assert TIMESTAMP.fullmatch(answer.timestamp)


def test_forecast_measures_every_day_against_the_last_close(client: TestClient) -> None:
    answer = OldForecast.model_validate(send(client, FORECAST))

    changes = [day.expected_change_pct for day in answer.forecast]
    prices = np.array([day.predicted_price for day in answer.forecast])
    assert answer.base_price == pytest.approx(petrobras().series.close[-1], rel=1e-7)
    np.testing.assert_allclose(changes, 100 * (prices / answer.base_price - 1), atol=1e-4)


def test_the_first_day_of_a_forecast_is_the_live_prediction(client: TestClient) -> None:
    live = OldPrediction.model_validate(send(client, LIVE))

    first = OldForecast.model_validate(send(client, FORECAST)).forecast[0]

    assert first.date == live.prediction_for_date
    assert first.predicted_price == live.predicted_price
    assert first.expected_change_pct == live.expected_change_pct


def test_prices_by_hand_answer_every_field_with_strings_for_what_is_not_known(client: TestClient) -> None:
    answer = OldPrediction.model_validate(send(client, MANUAL))

    assert (answer.symbol, answer.reference_price, answer.last_known_price) == ("PETR4.SA", 28.1, 28.7)
    assert (answer.prediction_for_date, answer.last_data_date) == ("N/A", "N/A")


def test_prices_by_hand_without_a_symbol_answer_a_string_too(client: TestClient) -> None:
    answer = client.post("/predict", json={"prices": [28.1 + 0.1 * k for k in range(60)]})

    assert OldPrediction.model_validate(answer.json()).symbol == "N/A"


def test_the_root_links_to_what_it_linked_to(client: TestClient) -> None:
    links = client.get("/").json()["links"]

    assert (links["metrics"], links["model_info"]) == ("/metrics", "/monitoring/model/info")


def test_the_model_information_has_the_fields_of_its_metadata(client: TestClient) -> None:
    answer = OldModelInfo.model_validate(client.get("/monitoring/model/info").json())

    assert answer.normalization
    assert answer.tf_version is None


@pytest.mark.parametrize("n_prices", [0, 59, 61])
def test_other_than_sixty_prices_are_422(client: TestClient, n_prices: int) -> None:
    answer = client.post("/predict", json={"symbol": "PETR4.SA", "prices": [28.1 + 0.1 * k for k in range(n_prices)]})

    assert answer.status_code == 422
    assert "detail" in answer.json()


@pytest.mark.parametrize("path", ["/predict/live", "/predict/forecast"])
def test_the_symbol_is_petrobras_unless_another_is_named(client: TestClient, path: str) -> None:
    assert client.post(path, json={}).json()["symbol"] == "PETR4.SA"


def test_health_answers_every_field_of_the_wire_contract(client: TestClient) -> None:
    answer = OldHealth.model_validate(client.get("/health").json())

    assert answer.model_loaded
    assert TIMESTAMP.fullmatch(answer.timestamp)
