"""``GET /symbols`` finds what each price source has, and works while Yahoo does not."""

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from services.prices.cache.search import CachedSearch
from services.prices.yahoo import YahooSource
from services.symbols import SymbolDirectory
from tests.fakes import application
from tests.yahoo_server import SEARCH, Reply, YahooServer


def symbols(client: TestClient, **query: str | int) -> list[str]:
    answer = client.get("/symbols", params=query)
    assert answer.status_code == 200, answer.text
    return [one["symbol"] for one in answer.json()["symbols"]]


@pytest.fixture
def sample(tmp_path: Path) -> TestClient:
    return TestClient(application(Settings(_env_file=None, data_dir=tmp_path, price_source="sample")))


@pytest.fixture
def yahoo_app(yahoo: YahooServer, tmp_path: Path) -> FastAPI:
    """The application with the real client, whose search ends at the Yahoo of this test."""
    app = application(Settings(_env_file=None, data_dir=tmp_path))
    source = YahooSource(tmp_path, timeout_s=5, attempts=1, session=yahoo.session())
    app.state.runtime.symbols = SymbolDirectory("yahoo", search=CachedSearch(source))
    return app


def test_the_sample_finds_its_own_symbols_only(sample: TestClient) -> None:
    assert symbols(sample, q="S&P 500") == ["^GSPC"]
    assert symbols(sample, q="petrobras") == []
    assert symbols(sample) == ["^GSPC", "^IXIC"]


def test_a_symbol_has_name_exchange_and_currency(sample: TestClient) -> None:
    answer = sample.get("/symbols", params={"q": "nasdaq"}).json()

    assert answer == {
        "query": "nasdaq",
        "source": "sample",
        "symbols": [{"symbol": "^IXIC", "name": "Nasdaq Composite", "exchange": "US index", "currency": "USD"}],
        "matched": True,
        "incomplete": None,
    }


def test_csv_files_are_found_by_name_and_a_new_one_at_once(tmp_path: Path) -> None:
    for name in ("PETR4.SA.csv", "OWN.csv", "notes.txt", "no ticker.csv"):
        (tmp_path / name).touch()
    client = TestClient(
        application(Settings(_env_file=None, price_source="csv", price_dir=tmp_path, data_dir=tmp_path))
    )

    assert symbols(client) == ["PETR4.SA", "OWN"]
    assert symbols(client, q="Petrobras") == ["PETR4.SA"]
    (tmp_path / "^GSPC.csv").touch()
    assert symbols(client, q="sp 500") == ["^GSPC"]


def test_a_folder_that_is_not_there_has_no_symbols(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, price_source="csv", price_dir=tmp_path / "none", data_dir=tmp_path)

    assert symbols(TestClient(application(settings))) == []


def test_yahoo_is_searched_for_what_is_not_well_known_once(yahoo_app: FastAPI, yahoo: YahooServer) -> None:
    client = TestClient(yahoo_app)
    quote = {"symbol": "ZKP.DE", "longname": "Zauber\nKaputt  AG", "exchDisp": "XETRA", "quoteType": "EQUITY"}
    yahoo.searches["zauber"] = [quote, {"symbol": "not a ticker"}, {"symbol": 7}, {"shortname": "no symbol"}]

    answer = client.get("/symbols", params={"q": "zauber"}).json()
    again = client.get("/symbols", params={"q": " ZAUBER "}).json()

    shown = {"symbol": "ZKP.DE", "name": "Zauber Kaputt AG", "exchange": "XETRA", "currency": "EUR"}
    assert (answer["symbols"], answer["matched"], answer["incomplete"]) == ([shown], True, None)
    assert again["symbols"] == answer["symbols"]
    assert yahoo.other_requests.count(SEARCH) == 1


def test_yahoo_is_not_asked_for_what_is_well_known(yahoo_app: FastAPI, yahoo: YahooServer) -> None:
    assert symbols(TestClient(yahoo_app), q="petrobras") == ["PETR4.SA", "PETR3.SA", "PBR"]
    assert SEARCH not in yahoo.other_requests


@pytest.mark.parametrize(
    "reply", [Reply(500), Reply(200, "<html>"), Reply(200, json.dumps({"quotes": 7})), Reply(429)], ids=str
)
def test_the_well_known_are_found_while_yahoo_fails(yahoo_app: FastAPI, yahoo: YahooServer, reply: Reply) -> None:
    yahoo.side_replies[SEARCH] = reply

    answer = TestClient(yahoo_app).get("/symbols", params={"q": "vale"}).json()

    assert [one["symbol"] for one in answer["symbols"]] == ["VALE", "VALE3.SA"]
    assert "Yahoo" in answer["incomplete"]


def test_yahoo_is_left_alone_after_failures_in_a_row(yahoo_app: FastAPI, yahoo: YahooServer) -> None:
    yahoo.side_replies[SEARCH] = Reply(500)
    client = TestClient(yahoo_app)

    answers = [client.get("/symbols", params={"q": f"unknown {number}"}).json() for number in range(3)]
    requested = yahoo.other_requests.count(SEARCH)
    answers += [client.get("/symbols", params={"q": f"another {number}"}).json() for number in range(3)]

    assert yahoo.other_requests.count(SEARCH) == requested
    assert all(answer["incomplete"] for answer in answers)
    assert "3 times in a row" in answers[-1]["incomplete"]


@pytest.mark.parametrize("query", [{"q": "x" * 65}, {"limit": "0"}, {"limit": "51"}, {"limit": "many"}])
def test_a_malformed_search_is_refused(sample: TestClient, query: dict[str, str]) -> None:
    answer = sample.get("/symbols", params=query)

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


@pytest.mark.parametrize("query", ["\0", "\u202e", "💥", "<script>alert(1)</script>", "'; --"])
def test_a_hostile_search_finds_nothing(sample: TestClient, query: str) -> None:
    assert symbols(sample, q=query) == []
