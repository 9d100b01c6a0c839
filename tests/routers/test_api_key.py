from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from config import Settings
from services.quotas import WRONG_KEYS_PER_MINUTE
from tests.fakes import application

KEY = "correct-horse-battery-staple"
GUARDED = [
    ("GET", "/models"),
    ("POST", "/predict"),
    ("POST", "/models/train"),
    ("GET", "/jobs"),
    ("DELETE", "/models/a-1"),
]


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    settings = Settings.model_validate({"data_dir": tmp_path, "price_source": "sample", "api_key": KEY})
    return TestClient(application(settings))


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("given", [None, "", "wrong", KEY.upper(), f"{KEY} ", "schlüssel"])
def test_without_the_key_nothing_is_done(client: TestClient, method: str, path: str, given: str | None) -> None:
    headers = {} if given is None else {b"X-API-Key": given.encode("latin-1")}

    answer = client.request(method, path, headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_with_the_key_the_route_answers(client: TestClient) -> None:
    assert client.get("/models", headers={"X-API-Key": KEY}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/up", "/health", "/docs", "/openapi.json"])
def test_what_tells_no_forecast_is_open(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_swagger_can_ask_for_the_key(client: TestClient) -> None:
    schemes = client.get("/openapi.json").json()["components"]["securitySchemes"]

    assert [(scheme["in"], scheme["name"]) for scheme in schemes.values()] == [("header", "X-API-Key")]


def test_the_key_is_in_no_representation_of_the_settings(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path, "api_key": KEY})

    assert KEY not in repr(settings) + settings.model_dump_json()


def test_many_wrong_keys_are_limited_and_lock_out_neither_the_right_one_nor_those_who_send_none(
    client: TestClient,
) -> None:
    wrong = [client.get("/models", headers={"X-API-Key": "wrong"}) for _ in range(WRONG_KEYS_PER_MINUTE + 5)]

    refused = wrong[-1]
    assert (wrong[0].status_code, refused.status_code) == (401, 429)
    assert refused.json()["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.get("/models").status_code == 401
    assert client.get("/models", headers={"X-API-Key": KEY}).status_code == 200
