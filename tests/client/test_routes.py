"""The client against the API's document: every route has a method, and generated files are current."""

import inspect
import json
import re
from collections.abc import Callable
from contextlib import suppress

import httpx2
import pytest

from app import VERSION
from stock_forecast_client import AsyncClient, Client, __version__
from stock_forecast_client.errors import UnexpectedResponse
from tests.client.conftest import JOB_ID, Script
from tools.client_code import CLIENT, generated

ROUTES = {
    f"{method.upper()} {path}"
    for path, methods in json.loads((CLIENT / "openapi.json").read_text(encoding="utf-8"))["paths"].items()
    for method in methods
}
MODEL_ID = "gspc-20261121-1a2b3c4d"
CALLS: dict[str, Callable[[Client], object]] = {
    "GET /": lambda client: client.info(),
    "GET /up": lambda client: client.up(),
    "GET /health": lambda client: client.health(),
    "POST /models/train": lambda client: client.train(ticker="^GSPC"),
    "GET /jobs": lambda client: client.jobs(limit=5, after=JOB_ID),
    "GET /jobs/{job_id}": lambda client: client.job(JOB_ID),
    "DELETE /jobs/{job_id}": lambda client: client.cancel_job(JOB_ID),
    "POST /jobs/{job_id}/retry": lambda client: client.retry_job(JOB_ID),
    "POST /runs": lambda client: client.start_run(action="forecast", tickers=["^GSPC"]),
    "GET /runs": lambda client: client.runs(limit=5, after=JOB_ID),
    "GET /runs/{run_id}": lambda client: client.run(JOB_ID),
    "GET /runs/{run_id}/tickers": lambda client: client.run_tickers(JOB_ID, state="failed"),
    "GET /runs/{run_id}/results": lambda client: client.run_results(JOB_ID),
    "POST /runs/{run_id}/cancel": lambda client: client.cancel_run(JOB_ID),
    "POST /runs/{run_id}/resume": lambda client: client.resume_run(JOB_ID),
    "POST /models/{model_id}/predict": lambda client: client.predict(),
    "POST /models/{model_id}/forecast": lambda client: client.forecast(),
    "POST /models/{model_id}/backtest": lambda client: client.backtest(),
    "POST /models/fetch-data": lambda client: client.fetch_data(ticker="^GSPC", days=5),
    "GET /models": lambda client: client.models(ticker="^GSPC"),
    "GET /models/{model_id}": lambda client: client.model(),
    "DELETE /models/{model_id}": lambda client: client.delete_model(MODEL_ID),
    "GET /models/aliases": lambda client: client.aliases(),
    "PUT /models/aliases/{alias}": lambda client: client.move_alias("default", MODEL_ID),
    "GET /models/aliases/{alias}/evaluations": lambda client: client.evaluations(limit=5),
    "POST /predict": lambda client: client.predict_prices(prices=[1.0]),
    "POST /predict/live": lambda client: client.predict_live(symbol="^GSPC"),
    "POST /predict/forecast": lambda client: client.forecast_symbol(symbol="^GSPC"),
    "POST /predict/batch": lambda client: client.forecast_batch(symbols=["^GSPC"]),
    "GET /forecasts/latest": lambda client: client.latest_forecasts(["^GSPC"], sort="-move"),
    "GET /forecasts/latest/{ticker}": lambda client: client.latest_forecast("^GSPC"),
    "POST /forecasts/latest": lambda client: client.publish_forecasts(),
    "POST /forecasts/prices": lambda client: client.fetch_nightly_prices("^GSPC"),
    "GET /symbols": lambda client: client.symbols("petr"),
    "GET /analysis/{ticker}": lambda client: client.analysis("^GSPC"),
    "GET /metrics": lambda client: client.metrics(),
    "POST /monitoring/score": lambda client: client.score(),
    "GET /monitoring/outcomes": lambda client: client.outcomes("^GSPC", limit=5),
    "GET /monitoring/accuracy": lambda client: client.realised_accuracy(ticker="^GSPC", days=30),
    "GET /monitoring/drift": lambda client: client.drift(ticker="^GSPC"),
    "GET /monitoring/stats": lambda client: client.stats(),
    "GET /monitoring/model/info": lambda client: client.model_info(),
    "POST /monitoring/forget": lambda client: client.forget(),
    "POST /monitoring/retrain": lambda client: client.retrain(ticker="^GSPC"),
}


def test_generated_files_are_what_the_application_generates() -> None:
    outdated = [path for path, text in generated().items() if (CLIENT / path).read_text(encoding="utf-8") != text]

    assert not outdated, f"run `make client` and commit {', '.join(outdated)}"


def test_the_version_is_that_of_the_application() -> None:
    assert __version__ == VERSION


def test_every_route_has_a_method_and_no_method_another_route() -> None:
    assert CALLS.keys() == ROUTES


@pytest.mark.parametrize("route", CALLS)
def test_a_method_requests_its_route(route: str) -> None:
    script = Script(httpx2.Response(200, json=[]))

    with suppress(UnexpectedResponse):  # a list is no answer to anything
        CALLS[route](script.client())

    method, path = route.split(" ")
    template = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
    assert [request.method for request in script.requests] == [method]
    assert re.fullmatch(template, script.requests[0].url.path)


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def signatures(kind: type) -> dict[str, str]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name.replace("__a", "__").replace("aclose", "close"): re.sub(r" -> .*", "", str(inspect.signature(method)))
            for name, method in methods
            if name != "__init__"
        }

    assert signatures(Client) == signatures(AsyncClient)
