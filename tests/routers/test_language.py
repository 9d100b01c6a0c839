"""Errors are in the language that the caller prefers; their codes are not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from config import Settings
from errors import ServerBusy
from routers.turns import Turns
from tests.fakes import application

PORTUGUESE = {"Accept-Language": "pt-BR,pt;q=0.9,en;q=0.8"}


def test_an_error_is_in_the_callers_language(client: TestClient) -> None:
    answer = client.get("/models/none-such", headers=PORTUGUESE)

    assert answer.status_code == 404
    assert answer.headers["content-language"] == "pt-BR"
    assert "Accept-Language" in answer.headers["vary"]
    problem = answer.json()
    assert (problem["code"], problem["title"]) == ("model_not_found", "Modelo não encontrado")
    assert problem["detail"] == "não existe o modelo 'none-such'"


@pytest.mark.parametrize("header", [{}, {"Accept-Language": "de"}, {"Accept-Language": "en-GB"}])
def test_an_error_is_in_english_otherwise(client: TestClient, header: dict[str, str]) -> None:
    answer = client.get("/models/none-such", headers=header)

    assert (answer.json()["title"], answer.headers["content-language"]) == ("Model not found", "en")


def test_the_fields_of_a_malformed_request_are_explained_too(client: TestClient) -> None:
    answer = client.post("/predict/forecast", json={"symbol": "a b", "days": 99}, headers=PORTUGUESE).json()

    assert answer["title"] == "Pedido malformado"
    assert {one["field"]: one["message"] for one in answer["errors"]} == {
        "symbol": "um ticker tem até 23 letras, algarismos e . - _ = &, como PETR4.SA ou ^GSPC",
        "days": "deve ser no máximo 30",
    }
    assert answer["detail"].startswith("symbol: um ticker tem até 23 letras")


KEY = "a-key-of-twenty-characters"
WITH_KEY = {"X-API-Key": KEY}
AS_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server whose one request a minute is used up."""
    settings = Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("limited"), api_key=KEY, rate_limit_requests=1)
    with TestClient(application(settings)) as client:
        client.get("/jobs", headers=WITH_KEY)
        yield client


@pytest.mark.parametrize(
    ("status", "method", "path", "request_", "title", "detail"),
    [
        (400, "GET", "/up", {"headers": {"Host": "a@b"}}, "Pedido incorreto",
         "é necessário um cabeçalho Host com um nome ou um endereço"),
        (401, "GET", "/jobs", {}, "Não autenticado", "o cabeçalho X-API-Key falta ou está errado"),
        (404, "GET", "/none", {}, "Não encontrado", "Não há nada neste endereço"),
        (404, "GET", "/static/none.js", {}, "Não encontrado", "a página não tem o arquivo 'none.js'"),
        (405, "PUT", "/up", {}, "Método não permitido", "Este endereço não aceita este método"),
        (421, "GET", "/up", {"headers": {"Host": "evil.example.com"}}, "Host não permitido",
         "este servidor não responde por 'evil.example.com'; ALLOWED_HOSTS pode incluí-lo"),
        (429, "GET", "/jobs", {"headers": WITH_KEY}, "Limite de pedidos atingido",
         "mais de 1 pedidos em um minuto; tente de novo em "),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)  # fmt: skip
def test_an_error_before_the_route_is_in_the_callers_language(
    limited: TestClient, status: int, method: str, path: str, request_: dict[str, Any], title: str, detail: str
) -> None:
    answer = limited.request(method, path, headers=PORTUGUESE | request_.get("headers", {}))

    assert (answer.status_code, answer.headers["content-language"]) == (status, "pt-BR")
    assert "Accept-Language" in answer.headers["vary"]
    assert answer.json()["title"] == title
    assert answer.json()["detail"].startswith(detail)


@pytest.mark.parametrize(
    ("status", "body", "title", "detail"),
    [
        (400, b"[" * 100_000, "Pedido incorreto", "o corpo do pedido não pôde ser lido"),
        (413, b" " * 1_000_001, "Pedido grande demais", "o corpo é maior que 100000 bytes"),
        (422, b'{"a" 1}', "Pedido malformado", "body: é necessário JSON; há um erro no caractere 6"),
        (422, b"", "Pedido malformado", "body: campo obrigatório"),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_an_error_of_a_body_is_in_the_callers_language(
    client: TestClient, status: int, body: bytes, title: str, detail: str
) -> None:
    answer = client.post("/models/fetch-data", content=body, headers=PORTUGUESE | AS_JSON)

    assert (answer.status_code, answer.headers["content-language"]) == (status, "pt-BR")
    assert (answer.json()["title"], answer.json()["detail"]) == (title, detail)


def test_json_with_a_fault_is_a_fault_of_the_body(client: TestClient) -> None:
    answer = client.post("/models/fetch-data", content=b'{"a" 1}', headers=AS_JSON).json()

    assert answer["errors"] == [{"field": "body", "message": "expected JSON; it has a fault at character 6"}]


@pytest.mark.parametrize("start", ["x", "2018-02-30", "2018-12-31T10:00:00"])
@pytest.mark.parametrize(
    ("headers", "says"),
    [({}, "Input should be a date such as 2018-12-31"), (PORTUGUESE, "deve ser uma data como 2018-12-31")],
    ids=["en", "pt-BR"],
)
def test_what_is_no_date_is_answered_with_an_example(
    client: TestClient, start: str, headers: dict[str, str], says: str
) -> None:
    answer = client.get("/analysis/WALK", params={"start": start}, headers=headers).json()

    assert answer["errors"] == [{"field": "start", "message": says}]


def test_a_choice_of_two_values_is_translated(client: TestClient) -> None:
    answer = client.get("/runs/20261121t093000-1a2b3c4d/results", params={"format": "x"}, headers=PORTUGUESE).json()

    assert answer["detail"] == "format: deve ser 'csv' ou 'parquet'"


@pytest.mark.parametrize(("path", "body"), [("/jobs", {}), ("/predict", {"json": {}})], ids=["GET", "POST"])
def test_a_busy_server_says_so_in_the_callers_language(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    async def take(_turns: Turns, _scope: Scope) -> None:
        raise ServerBusy("too many requests are being answered; try again later", retry_after_s=1)

    monkeypatch.setattr(Turns, "take", take)

    answer = client.request("POST" if body else "GET", path, headers=PORTUGUESE, **body)

    assert (answer.status_code, answer.headers["content-language"]) == (503, "pt-BR")
    assert answer.json()["title"] == "Servidor ocupado"
    assert answer.json()["detail"] == "há pedidos demais em andamento; tente mais tarde"


def test_a_body_that_comes_too_slowly_is_refused_in_the_callers_language(tmp_path: Path) -> None:
    impatient = application(Settings(_env_file=None, data_dir=tmp_path, body_timeout_s=0.1))

    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    async def silent(scope: Scope, _receive: Receive, send: Send) -> None:
        await impatient(scope, never, send)

    answer = TestClient(silent).post("/predict", headers=PORTUGUESE, json={})

    assert (answer.status_code, answer.headers["content-language"]) == (408, "pt-BR")
    assert answer.json()["title"] == "Tempo do pedido esgotado"
    assert answer.json()["detail"] == "o corpo demorou mais de 0,1 s"
