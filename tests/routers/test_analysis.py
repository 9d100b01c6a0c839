import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.prices.sample import SampleSource
from tests.fakes import use_prices


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
