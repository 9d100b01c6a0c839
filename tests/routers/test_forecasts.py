"""The routes of nightly forecasts, over the whole application."""

import gzip

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from services.publication import publish
from tests.fakes import FakePriceSource, InMemoryArtifactStore, application, use_prices, walk_history
from tests.routers.conftest import NOW
from tests.services.publications import publication, stored


@pytest.fixture
def published(client: TestClient, store: InMemoryArtifactStore) -> TestClient:
    publish(store, publication(*(stored(f"T{number:02}") for number in range(30)), fails=("BAD",)))
    return client


def test_before_the_first_run_the_answer_is_404_and_says_what_to_do(client: TestClient) -> None:
    answers = [client.get("/forecasts/latest"), client.get("/forecasts/latest/AAA")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert {answer.json()["code"] for answer in answers} == {"forecast_not_published"}
    assert "bin/stock-forecast nightly" in answers[0].json()["detail"]


def test_the_latest_forecasts_come_compressed_or_not(published: TestClient) -> None:
    packed = published.get("/forecasts/latest", headers={"Accept-Encoding": "gzip"})
    plain = published.get("/forecasts/latest", headers={"Accept-Encoding": "identity"})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.json() == plain.json()
    assert int(packed.headers["Content-Length"]) == len(gzip.compress(plain.content, 6, mtime=0))
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert packed.headers["Cache-Control"] == "private, max-age=60"
    assert [one["ticker"] for one in plain.json()["forecasts"]][:2] == ["T00", "T01"]


@pytest.mark.parametrize("path", ["/forecasts/latest", "/forecasts/latest/t00", "/forecasts/latest?tickers=T01,BAD"])
def test_who_has_the_answer_gets_304_without_it(published: TestClient, path: str) -> None:
    first = published.get(path)

    tag = first.headers["ETag"]
    same = [published.get(path, headers={"If-None-Match": one}) for one in (tag, f'"x", {tag}', tag[2:], "*")]
    other = published.get(path, headers={"If-None-Match": '"x"'})

    assert first.status_code == other.status_code == 200
    assert [(answer.status_code, answer.content) for answer in same] == [(304, b"")] * 4
    assert {answer.headers["ETag"] for answer in same} == {tag}


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "sort=best", "tickers=a/b", "tickers=,", "unknown=1", f"tickers={'A,' * 12_001}A"],
)
def test_a_hostile_query_is_refused(published: TestClient, query: str) -> None:
    assert published.get(f"/forecasts/latest?{query}").status_code == 422


@pytest.mark.parametrize(("ticker", "status"), [("T00", 200), ("BAD", 404), ("NONE", 404), ("a%2Fb", 422)])
def test_a_ticker_has_all_steps_or_a_reason(published: TestClient, ticker: str, status: int) -> None:
    assert published.get(f"/forecasts/latest/{ticker}").status_code == status


def test_a_run_over_the_routes_is_published_and_read(app: FastAPI, client: TestClient, default: str) -> None:
    app.state.runtime.settings = app.state.runtime.settings.model_copy(update={"nightly_tickers": "WALK,NONE"})

    fetched = client.post("/forecasts/prices").json()
    report = client.post("/forecasts/latest").json()
    answer = client.get("/forecasts/latest").json()

    assert (fetched["n_tickers"], fetched["n_fetched"]) == (2, 1)
    assert [one["code"] for one in fetched["failed"]] == ["ticker_not_found"]
    assert (report["n_made"], report["n_failed"], report["n_left"]) == (1, 1, 0)
    assert [one["ticker"] for one in answer["forecasts"]] == ["WALK"]
    assert answer["forecasts"][0]["model_id"] == default
    assert [one["ticker"] for one in answer["failed"]] == ["NONE"]


def test_without_tickers_nothing_is_published(client: TestClient, default: str) -> None:
    report = client.post("/forecasts/latest").json()

    assert default
    assert (report["n_tickers"], report["published_at"]) == (0, None)
    assert client.get("/forecasts/latest").status_code == 404


def test_a_universe_that_is_not_there_is_an_error(app: FastAPI, client: TestClient) -> None:
    app.state.runtime.settings = app.state.runtime.settings.model_copy(update={"nightly_tickers": "universe:none"})

    answers = [client.post("/forecasts/latest"), client.post("/forecasts/prices")]

    assert [answer.json()["code"] for answer in answers] == ["universe_not_found"] * 2


def test_prices_of_the_sample_never_stand_in(store: InMemoryArtifactStore, tmp_path: object) -> None:
    settings = Settings(_env_file=None, price_source="yahoo,sample", nightly_tickers="^GSPC", data_dir=str(tmp_path))
    app = application(settings, clock=lambda: NOW, store=store)
    use_prices(app, FakePriceSource(walk_history()))  # without ^GSPC, which the sample has

    report = app.state.runtime.nightly.publish(NOW, 10)

    assert [one.ticker for one in report.failed] == ["^GSPC"]
