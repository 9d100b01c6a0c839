import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.analyses import AT_ONCE, MAX_WAITING, WantedAnalysis
from services.prices.sample import SampleSource
from tests.fakes import FakePriceSource, use_prices, walk_history
from tests.serving import sent, served

T = TypeVar("T")


def test_analysis_as_json(client: TestClient) -> None:
    answer = client.get("/analysis/WALK")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert (answer.json()["ticker"], answer.json()["n_sessions"]) == ("WALK", 500)


def test_analysis_as_a_page_that_may_load_nothing(client: TestClient) -> None:
    answer = client.get("/analysis/walk", params={"format": "html"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.text.startswith("<!DOCTYPE html>")
    assert "<h1>WALK</h1>" in answer.text


@pytest.mark.parametrize("path", ["/analysis/%5EGSPC", "/analysis/^GSPC"])
def test_the_circumflex_of_an_index_may_be_encoded_or_not(client: TestClient, app: FastAPI, path: str) -> None:
    use_prices(app, SampleSource())

    answer = client.get(path, params={"start": "2017-01-01", "end": "2017-12-31"})

    assert (answer.status_code, answer.json()["n_sessions"]) == (200, 251)


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/analysis/a%20b", "ticker"),
        ("/analysis/a%2Fb", "ticker"),
        ("/analysis/..%2F..%2Fetc%2Fpasswd", "ticker"),
        ("/analysis/%3Cscript%3E", "ticker"),
        (f"/analysis/{'A' * 200}", "ticker"),
        ("/analysis/WALK?start=yesterday", "start"),
        ("/analysis/WALK?format=pdf", "format"),
        ("/analysis/WALK?horizon=3", "horizon"),
        ("/analysis/WALK?start=2011-01-02&end=2011-01-01", "query"),
        ("/analysis/WALK?end=2030-01-01", "end"),
        ("/analysis/WALK?start=2030-01-01&format=html", "start"),
    ],
)
def test_a_malformed_request_is_refused_with_its_field(client: TestClient, path: str, field: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/analysis/UNKNOWN", 404, "ticker_not_found"), ("/analysis/WALK?end=2010-02-01", 409, "insufficient_history")],
)
def test_a_failure_has_the_same_shape_for_both_formats(
    client: TestClient, path: str, status: int, code: str, form: str
) -> None:
    answer = client.get(f"{path}{'&' if '?' in path else '?'}format={form}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_missing_library_answers_501(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.analysis.report.find_spec", lambda _: None)

    answer = client.get("/analysis/WALK")

    assert (answer.status_code, answer.json()["code"]) == (501, "analysis_unavailable")
    assert "statsmodels" in answer.json()["detail"]


def test_both_formats_are_documented(client: TestClient) -> None:
    documented = client.get("/openapi.json").json()["paths"]["/analysis/{ticker}"]["get"]["responses"]["200"]["content"]

    assert set(documented) == {"application/json", "text/html"}


@pytest.mark.parametrize("params", [{}, {"format": "html"}], ids=["json", "page"])
def test_a_second_request_is_answered_from_what_is_kept(
    client: TestClient, computing: "Computing", params: dict[str, str]
) -> None:
    computing.may_end.set()

    first, second = (client.get("/analysis/WALK", params=params) for _ in range(2))

    assert (first.text, first.headers["content-type"]) == (second.text, second.headers["content-type"])
    assert len(computing.begun) == 1


def test_while_an_analysis_is_computed_other_requests_are_answered(app: FastAPI, computing: "Computing") -> None:
    with served(app) as url, sent(url, "GET", "/analysis/WALK") as caller:
        computing.wait_for(1)

        assert requests.get(f"{url}/up", timeout=10).status_code == 200

        computing.may_end.set()
        assert caller.recv(12) == b"HTTP/1.1 200"


def test_clients_that_leave_take_their_waiting_analyses_with_them(app: FastAPI, computing: "Computing") -> None:
    n_too_many = AT_ONCE + MAX_WAITING + 1
    use_prices(app, FakePriceSource(*(walk_history(f"T{k}", 120, seed=k) for k in range(n_too_many))))
    with served(app) as url:
        with ExitStack() as clients:
            for k in range(n_too_many - 1):
                clients.enter_context(sent(url, "GET", f"/analysis/T{k}"))
            eventually(lambda: len(callers(app)), lambda n: n == n_too_many - 1)
            refused = requests.get(f"{url}/analysis/T{n_too_many - 1}", timeout=10)
        eventually(lambda: len(callers(app)), lambda n: n == AT_ONCE)
        computing.may_end.set()
        answered = requests.get(f"{url}/analysis/T{n_too_many - 1}", timeout=30)

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_analyses")
    assert int(refused.headers["Retry-After"]) > 0
    assert answered.status_code == 200
    assert len(computing.begun) == AT_ONCE + 1


def test_of_clients_that_want_the_same_one_may_leave(app: FastAPI, computing: "Computing") -> None:
    use_prices(app, FakePriceSource(*(walk_history(f"T{k}", 120, seed=k) for k in range(2))))
    with served(app) as url, sent(url, "GET", "/analysis/T0"):
        computing.wait_for(1)
        with sent(url, "GET", "/analysis/T1") as stays:
            with sent(url, "GET", "/analysis/T1"):
                eventually(lambda: callers(app), lambda found: found == [1, 2])
            eventually(lambda: callers(app), lambda found: found == [1, 1])
            computing.may_end.set()

            assert stays.recv(12) == b"HTTP/1.1 200"


def test_a_large_body_is_refused_although_no_body_is_read(app: FastAPI, computing: "Computing") -> None:
    with served(app) as url, sent(url, "GET", "/analysis/WALK", body=b" " * 200_000) as caller:
        assert caller.recv(12) == b"HTTP/1.1 413"


class Computing:
    """The analyses that were begun; none ends before ``may_end`` is set."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = threading.Event()

    def wait_for(self, count: int) -> None:
        eventually(lambda: len(self.begun), lambda n: n == count)


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Computing]:
    state, compute = Computing(), WantedAnalysis.compute

    def gated(wanted: WantedAnalysis) -> str:
        state.begun.append(wanted.key)
        assert state.may_end.wait(60)
        return compute(wanted)

    monkeypatch.setattr(WantedAnalysis, "compute", gated)
    yield state
    state.may_end.set()


def callers(app: FastAPI) -> list[int]:
    """How many callers wait for each analysis."""
    found: list[int] = app.state.runtime.analyses.work.callers
    return found


def eventually(read: Callable[[], T], holds: Callable[[T], bool]) -> T:
    deadline = time.monotonic() + 30
    while not holds(found := read()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found
