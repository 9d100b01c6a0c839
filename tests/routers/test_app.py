import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient


def test_up_is_ok(client: TestClient) -> None:
    assert client.get("/up").json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_pages_load_nothing_from_elsewhere(client: TestClient, path: str) -> None:
    page = client.get(path)

    assert page.status_code == 200
    assert "https://" not in page.text
    assert "//cdn" not in page.text


def test_the_pages_own_files_are_served(client: TestClient) -> None:
    page = client.get("/docs").text

    files = [part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert files
    assert all(client.get(file).status_code == 200 for file in files)


def test_every_route_has_a_summary_a_description_and_the_error_schema(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
            assert operation["description"], (path, method)
            problem = operation["responses"]["500"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/Problem"}


def test_every_body_has_an_example(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for operation in methods.values():
            if "requestBody" in operation:
                assert "example" in str(operation["requestBody"]), path


def test_an_unknown_path_is_a_problem_too(client: TestClient) -> None:
    answer = client.get("/wp-login.php")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_a_method_that_is_not_allowed_says_which_are(client: TestClient) -> None:
    answer = client.put("/up")

    assert answer.json()["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET"


def test_a_body_above_the_limit_is_413(client: TestClient) -> None:
    answer = client.post("/models/fetch-data", content=b" " * 1_000_001, headers={"Content-Type": "application/json"})

    assert answer.json()["code"] == "request_too_large"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_body_that_does_not_announce_its_size_is_counted(client: TestClient) -> None:
    answer = client.post("/models/fetch-data", content=iter([b" " * 600_000] * 2))

    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("path", ["/up", "/health"])
def test_probes_answer_head_too(client: TestClient, path: str) -> None:
    assert client.head(path).status_code == 200


@pytest.mark.parametrize("hostile", ["a\tb", "x" * 65, "a b", ""])
def test_a_request_id_that_could_forge_a_log_line_is_replaced(client: TestClient, hostile: str) -> None:
    given, other = (client.get("/up", headers={"X-Request-Id": hostile}).headers["x-request-id"] for _ in range(2))

    assert given not in (hostile, other)
    assert len(given) == 32


def test_a_callers_request_id_is_kept(client: TestClient) -> None:
    assert client.get("/up", headers={"X-Request-Id": "trace-7"}).headers["x-request-id"] == "trace-7"
