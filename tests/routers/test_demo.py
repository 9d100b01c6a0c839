"""Sample prices in the place of Yahoo: in forecasts of a server that asks for it, and in nothing else."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from errors import PricesUnreachable
from services.monitoring.forecast_log import FORECASTS
from services.prices.sample import SampleSource
from services.prices.series import PriceHistory
from tests.fakes import FailingPriceSource, InlineExecutor, application, use_prices

NEW_YEAR = datetime(2019, 1, 1, 12, tzinfo=UTC)  # the sessions that follow the sample are still open

FORECASTS_AND_CHART = [
    ("/predict/live", {"symbol": "^GSPC"}),
    ("/predict/forecast", {"symbol": "^GSPC", "days": 3}),
    ("/models/default/predict", {"ticker": "^GSPC"}),
    ("/models/default/forecast", {"ticker": "^GSPC", "horizon": 3}),
    ("/models/fetch-data", {"ticker": "^GSPC", "days": 3}),
]


Serve = Callable[[str], FastAPI]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """An application without internet, for a PRICE_SOURCE."""

    def serve(source: str) -> FastAPI:
        settings = Settings.model_validate({"data_dir": tmp_path, "price_source": source})
        app = application(settings, clock=lambda: NEW_YEAR)
        app.state.runtime.executor = app.state.runtime.backtest_executor = InlineExecutor(app)
        if source != "sample":
            use_prices(app, FailingPriceSource(PricesUnreachable("no internet")))
        return app

    return serve


@pytest.mark.parametrize(("route", "body"), FORECASTS_AND_CHART)
def test_forecasts_and_their_chart_fall_back_to_the_sample(serve: Serve, route: str, body: Any) -> None:
    answer = TestClient(serve("yahoo,sample")).post(route, json=body)

    assert answer.status_code == 200, answer.text
    assert (answer.json()["source"], answer.json()["stale"], answer.json()["demo"]) == ("sample", True, True)


@pytest.mark.parametrize(("route", "body"), FORECASTS_AND_CHART)
def test_by_default_unreachable_prices_are_an_error(serve: Serve, route: str, body: Any) -> None:
    answer = TestClient(serve("yahoo")).post(route, json=body)

    assert (answer.status_code, answer.json()["code"]) == (503, "prices_unreachable")


def test_a_batch_falls_back_for_the_two_indices_alone(serve: Serve) -> None:
    answer = TestClient(serve("yahoo,sample")).post("/predict/batch", json={"symbols": ["^IXIC", "AAPL"]}).json()

    index, share = answer["results"]
    assert index["result"]["source"] == "sample"
    assert share["error"]["code"] == "prices_unreachable"


@pytest.mark.parametrize(
    ("method", "route", "body"),
    [
        ("POST", "/models/train", {"ticker": "^GSPC", "model": "ewma"}),
        ("POST", "/models/default/backtest", {"ticker": "^GSPC"}),
        ("POST", "/monitoring/retrain", {"ticker": "^GSPC"}),
        ("GET", "/analysis/%5EGSPC", None),
    ],
)
def test_nothing_else_falls_back_to_the_sample(serve: Serve, method: str, route: str, body: Any) -> None:
    answer = TestClient(serve("yahoo,sample")).request(method, route, json=body)

    assert (answer.status_code, answer.json()["code"]) == (503, "prices_unreachable")


def test_drift_is_not_measured_on_the_sample(serve: Serve) -> None:
    answer = TestClient(serve("yahoo,sample")).get("/monitoring/drift", params={"ticker": "^GSPC"}).json()

    assert answer["reports"] == []
    assert [one["code"] for one in answer["unjudged"]] == ["prices_unreachable"]


@pytest.mark.parametrize(("source", "n_logged"), [("yahoo,sample", 0), ("sample", 1)])
def test_a_forecast_from_the_sample_is_logged_only_where_the_sample_is_the_source(
    serve: Serve, source: str, n_logged: int
) -> None:
    app = serve(source)

    assert TestClient(app).post("/predict/live", json={"symbol": "^GSPC"}).status_code == 200
    app.state.runtime.writer.flush()

    assert len(app.state.runtime.store.list_keys(FORECASTS)) == n_logged


def test_reachable_prices_are_no_demo(serve: Serve) -> None:
    app = serve("yahoo,sample")

    class Fresh:
        def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
            known = SampleSource().history(ticker, now)
            return PriceHistory(known.series, source="yahoo")

    use_prices(app, Fresh())
    answer = TestClient(app).post("/models/fetch-data", json={"ticker": "^GSPC", "days": 1}).json()

    assert (answer["source"], answer["demo"]) == ("yahoo", False)


@pytest.mark.parametrize("route", ["/predict/live", "/predict/forecast"])
def test_an_unknown_symbol_is_answered_with_the_one_that_was_meant(serve: Serve, route: str) -> None:
    answer = TestClient(serve("sample")).post(route, json={"symbol": "SPX"})

    assert (answer.status_code, answer.json()["did_you_mean"]) == (404, "^GSPC")
    assert answer.json()["detail"].endswith("did you mean ^GSPC?")


def test_an_unknown_symbol_of_a_batch_is_answered_with_the_one_that_was_meant(serve: Serve) -> None:
    answer = TestClient(serve("sample")).post("/predict/batch", json={"symbols": ["SPX"]}).json()

    assert answer["results"][0]["error"]["did_you_mean"] == "^GSPC"
