"""Holds the client to the API's own document: every route has a method, which asks for it as documented."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from app import create_app
from client import Client
from client.errors import AnswerNotUnderstood
from config import Settings
from schemas.batch import BatchRequest
from schemas.by_symbol import LiveRequest, PricesRequest, SymbolForecastRequest
from schemas.fetch_data import FetchDataRequest
from schemas.retrain import RetrainRequest
from schemas.train import TrainRequest
from tests.test_layers import project_files

ROOT = Path(__file__).parents[2]
OURS = {path.removesuffix(".py").split("/")[0] for path in project_files()}
CALLS: dict[str, Callable[[Client], object]] = {
    "GET /": lambda client: client.info(),
    "GET /up": lambda client: client.up(),
    "GET /health": lambda client: client.health(),
    "POST /models/train": lambda client: client.train(TrainRequest(ticker="^GSPC")),
    "GET /jobs": lambda client: client.jobs(limit=5, after="20261121t093000-1a2b3c4d"),
    "GET /jobs/{job_id}": lambda client: client.job("20261121t093000-1a2b3c4d"),
    "DELETE /jobs/{job_id}": lambda client: client.cancel_job("20261121t093000-1a2b3c4d"),
    "POST /jobs/{job_id}/retry": lambda client: client.retry_job("20261121t093000-1a2b3c4d"),
    "POST /models/{model_id}/predict": lambda client: client.predict("default"),
    "POST /models/{model_id}/forecast": lambda client: client.forecast("default"),
    "POST /models/{model_id}/backtest": lambda client: client.backtest("default"),
    "POST /models/fetch-data": lambda client: client.fetch_data(FetchDataRequest(ticker="^GSPC", days=5)),
    "GET /models": lambda client: client.models(ticker="^GSPC"),
    "GET /models/{model_id}": lambda client: client.model("default"),
    "DELETE /models/{model_id}": lambda client: client.delete_model("gspc-20261121-1a2b3c4d"),
    "GET /models/aliases": lambda client: client.aliases(),
    "PUT /models/aliases/{alias}": lambda client: client.move_alias("default", "gspc-20261121-1a2b3c4d"),
    "GET /models/aliases/{alias}/evaluations": lambda client: client.evaluations("default", limit=5),
    "POST /predict": lambda client: client.predict_prices(PricesRequest(prices=(1.0,))),
    "POST /predict/live": lambda client: client.predict_live(LiveRequest(symbol="^GSPC")),
    "POST /predict/forecast": lambda client: client.forecast_symbol(SymbolForecastRequest(symbol="^GSPC")),
    "POST /predict/batch": lambda client: client.forecast_batch(BatchRequest(symbols=("^GSPC",))),
    "GET /analysis/{ticker}": lambda client: client.analysis("^GSPC"),
    "GET /metrics": lambda client: client.metrics(),
    "POST /monitoring/score": lambda client: client.score(),
    "GET /monitoring/accuracy": lambda client: client.realised_accuracy(ticker="^GSPC", days=30),
    "GET /monitoring/drift": lambda client: client.drift(ticker="^GSPC"),
    "GET /monitoring/stats": lambda client: client.stats(),
    "GET /monitoring/model/info": lambda client: client.model_info(),
    "POST /monitoring/retrain": lambda client: client.retrain(RetrainRequest(ticker="^GSPC")),
}


def documented_routes() -> set[str]:
    paths = create_app(Settings(_env_file=None)).openapi()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_route_of_the_api_has_a_method() -> None:
    assert documented_routes() - CALLS.keys() == set()


def test_no_method_asks_for_a_route_that_the_api_lacks() -> None:
    assert CALLS.keys() - documented_routes() == set()


@pytest.mark.parametrize("route", CALLS)
def test_a_method_asks_for_its_route(route: str) -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json=[])

    with (
        Client("http://service", transport=httpx2.MockTransport(answer)) as client,
        suppress(AnswerNotUnderstood),  # a list is no answer to anything
    ):
        CALLS[route](client)

    method, path = route.split(" ")
    template = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
    assert [request.method for request in asked] == [method]
    assert re.fullmatch(template, asked[0].url.path)


def test_the_client_needs_nothing_of_the_server() -> None:
    probe = "import client, json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"

    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = set(json.loads(done.stdout))
    assert loaded & OURS == {"client", "errors", "schemas"}
    assert loaded & {"fastapi", "starlette", "numpy", "boto3", "uvicorn", "pydantic_settings"} == set()
