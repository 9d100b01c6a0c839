"""What holds of every route and every answer: methods, HEAD, hosts, headers, redirects."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from errors import AppError, BadRequest, HeadersTooLarge, HostNotAllowed, RequestTimeout, ServerBusy
from routers.hosts import is_allowed
from tests.fakes import application

PAGES = ["/", "/docs", "/redoc"]
GETS = ["/", "/up", "/health", "/metrics", "/models", "/docs", "/redoc", "/openapi.json", "/static/style.css", "/none"]


def operations(app: FastAPI) -> list[tuple[str, set[str]]]:
    return [(path, {method.upper() for method in methods}) for path, methods in app.openapi()["paths"].items()]


def test_a_method_that_an_address_lacks_is_405_with_all_that_it_has(app: FastAPI, client: TestClient) -> None:
    for path, methods in operations(app):
        address = path.format(model_id="gspc-20261121-1a2b3c4d", alias="default", ticker="AAPL", job_id="x", run_id="x")
        expected = methods | ({"HEAD"} if "GET" in methods else set())
        for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"} - expected:
            answer = client.request(method, address)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["allow"].split(", ")) == expected, (method, path)


def test_an_alias_of_a_ticker_answers_405_too(client: TestClient) -> None:
    assert client.get("/models/aliases/ticker/WALK").headers["allow"] == "PUT"
    assert client.get("/models/ticker/WALK/predict").headers["allow"] == "POST"


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_head_answers_as_get_without_the_body(client: TestClient, path: str, accept: str) -> None:
    got = client.get(path, headers={"Accept": accept, "X-Request-Id": "one"})
    head = client.head(path, headers={"Accept": accept, "X-Request-Id": "one"})

    assert head.status_code == got.status_code
    assert head.content == b""
    changing = {"content-length", "retry-after"} if path in ("/metrics", "/health", "/") else set()
    assert {name: value for name, value in head.headers.items() if name not in changing} == {
        name: value for name, value in got.headers.items() if name not in changing
    }


def test_head_is_logged_and_counted_as_head(client: TestClient) -> None:
    client.head("/up")

    assert 'http_requests_total{endpoint="/up",method="HEAD",status="200"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("path", [*GETS, "/static/none.js", "/models/a%20b"])
def test_every_answer_has_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe-eval" not in headers["content-security-policy"]
    assert "script-src 'unsafe-inline'" not in headers["content-security-policy"]


def test_an_unexpected_error_has_the_security_headers(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.state.runtime.health_check, "health", lambda *_: 1 / 0)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/health")

    assert answer.status_code == 500
    assert answer.headers["x-content-type-options"] == "nosniff"


def asked(app: FastAPI, *, host: str, server: str = "127.0.0.1") -> Any:
    """The answer to a request that came over the interface with the address ``server``."""

    async def over(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"server": (server, 8000)}, receive, send)

    return TestClient(over).get("/up", headers={"Host": host})


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1", "LOCALHOST", "[::1]:8000", "127.8.8.8"])
def test_a_loopback_name_is_answered_over_loopback(app: FastAPI, host: str) -> None:
    assert asked(app, host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["rebind.example", "localhost.evil.example", "10.0.0.1", "api", "0.0.0.0", "evil.example:8000"],  # noqa: S104
)
def test_another_name_is_refused_over_loopback(app: FastAPI, host: str) -> None:
    answer = asked(app, host=host)

    assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "location" not in answer.headers


@pytest.mark.parametrize("host", ["", "a b", "a@b", "http://localhost", "localhost:8000:1", "localhost/", "[::1"])
def test_a_malformed_host_is_400(app: FastAPI, host: str) -> None:
    answer = asked(app, host=host)

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("api:8000", 200),
        ("localhost", 200),
        ("172.18.0.3", 200),
        ("[2001:db8::1]", 200),
        ("mybox.local", 200),
        ("rebind.example", 421),
        ("local.evil.example", 421),
    ],
)
def test_over_another_interface_private_names_are_answered(app: FastAPI, host: str, status: int) -> None:
    assert asked(app, host=host, server="172.18.0.3").status_code == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("api.example.com", 200), ("a.example.org:443", 200), ("example.org", 421), ("localhost", 200), ("api", 421)],
)
def test_allowed_hosts_are_answered_besides_loopback_names(tmp_path: Path, host: str, status: int) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path, allowed_hosts="api.example.com, *.Example.org")

    assert asked(application(settings), host=host, server="10.0.0.1").status_code == status


def test_an_asterisk_allows_every_host() -> None:
    assert is_allowed("anything.example", ("*",), {"server": ("127.0.0.1", 80)})


@pytest.mark.parametrize("path", ["/docs/", "/models/?limit=1", "/up/"])
def test_redirects_are_relative(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)

    if answer.is_redirect:
        assert answer.headers["location"].startswith("/")
        assert not answer.headers["location"].startswith("//")
    else:
        assert "location" not in answer.headers


def test_the_openapi_document_is_built_once_and_revalidated(app: FastAPI, client: TestClient) -> None:
    first = client.get("/openapi.json")
    second = client.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})

    assert first.json() == app.openapi()
    assert (second.status_code, second.content) == (304, b"")
    assert second.headers["etag"] == first.headers["etag"]
    assert app.state.documentation.document() is app.state.documentation.document()


@pytest.mark.parametrize("body", [b"\xff\xfe{}", b'{"ticker": "\xff"}'])
def test_a_body_that_is_not_text_is_a_documented_problem(app: FastAPI, client: TestClient, body: bytes) -> None:
    answer = client.post("/models/fetch-data", content=body, headers={"Content-Type": "application/json"})

    listed = app.openapi()["paths"]["/models/fetch-data"]["post"]["responses"][str(answer.status_code)]["description"]
    assert answer.json()["code"] in listed.split(", ")


def test_redoc_loads_no_image_from_elsewhere(client: TestClient) -> None:
    script = client.get("/static-offline-docs/redoc.standalone.js")

    assert script.headers["content-type"].startswith("text/javascript")
    assert "cdn.redoc.ly" not in script.text


@pytest.mark.parametrize("error", [BadRequest, RequestTimeout, HostNotAllowed, HeadersTooLarge, AppError, ServerBusy])
def test_what_any_request_may_get_is_documented_for_every_route(client: TestClient, error: type[AppError]) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            assert str(error.status_code) in operation["responses"], (method, path)
