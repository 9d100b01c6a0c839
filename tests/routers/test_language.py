"""Errors are in the language that the caller prefers; their codes are not."""

import pytest
from fastapi.testclient import TestClient

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
