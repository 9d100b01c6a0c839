"""What every request refuses, whatever its route."""

from collections.abc import Iterator
from datetime import date
from typing import Any, get_args, get_origin

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import ValidationError

from config import Settings
from schemas import alias, analysis, backtest, batch, by_symbol, fetch_data, predict, retrain, run, train
from schemas.common import Request
from schemas.train import TrainRequest
from tests.fakes import application

MODULES = (alias, analysis, backtest, batch, by_symbol, fetch_data, predict, retrain, run, train)


def request_schemas() -> list[type[Request]]:
    """Every schema of something that a caller sends."""
    found = {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Request) and kind is not Request
    }
    return sorted(found, key=lambda kind: kind.__name__)


def leaves(annotation: Any) -> set[Any]:
    """The types that a field's type is made of."""
    inner = get_args(annotation)
    return {annotation} if not inner else {leaf for one in inner for leaf in leaves(one)}


def numeric_fields() -> Iterator[tuple[type[Request], str, Any]]:
    """Schema, field and ``true`` where a number belongs."""
    for kind in request_schemas():
        for name, field in kind.model_fields.items():
            if leaves(field.annotation) & {int, float}:
                yield kind, name, [0.5, True] if get_origin(field.annotation) is tuple else True


NUMERIC = list(numeric_fields())


def test_the_numeric_fields_are_found() -> None:
    names = {name for _, name, _ in NUMERIC}

    assert names >= {
        "prices", "days", "horizon", "levels", "quantile_levels", "stride", "refit_every", "epochs", "train_size",
        "seed", "max_seconds", "sequence_length", "patience",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "value"), NUMERIC, ids=[f"{kind.__name__}.{name}" for kind, name, _ in NUMERIC]
)
def test_true_is_no_number(kind: type[Request], name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({name: value})

    faults = {fault["loc"]: fault["msg"] for fault in refused.value.errors()}
    assert faults[(name,)] == "Input should be a number, not true or false"


def test_booleans_and_numbers_stay_what_they_are() -> None:
    request = TrainRequest.model_validate({"ticker": "^GSPC", "warm_start": False, "epochs": 1, "train_size": 0.5})

    assert (request.warm_start, request.epochs, request.train_size) == (False, 1, 0.5)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return application(Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("data")))


def test_every_body_of_a_route_is_a_request(app: FastAPI) -> None:
    schemas = app.openapi()
    bodies = {
        reference.rpartition("/")[2]
        for path in schemas["paths"].values()
        for operation in path.values()
        for reference in _references(operation.get("requestBody"))
    }

    assert bodies
    assert bodies <= {kind.__name__ for kind in request_schemas()}


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("/predict", {"prices": [28.5] * 59 + [True]}, "prices"),
        ("/predict/forecast", {"days": True}, "days"),
        ("/models/fetch-data", {"ticker": "^GSPC", "days": True}, "days"),
        ("/models/default/forecast", {"horizon": True}, "horizon"),
        ("/models/default/backtest", {"refit_every": True}, "refit_every"),
        ("/models/train", {"ticker": "^GSPC", "seed": False}, "seed"),
    ],
)
def test_a_route_names_the_field(app: FastAPI, route: str, body: Any, field: str) -> None:
    answer = TestClient(app).post(route, json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")
    (fault,) = answer.json()["errors"]
    assert fault["field"].removeprefix("body.") == field
    assert fault["message"] == "Input should be a number, not true or false"


@pytest.mark.parametrize("ticker", ["NIFTY_FIN_SERVICE.NS", "nifty_fin_service.ns", "^NSE_BANK"])
def test_a_ticker_may_have_underscores(ticker: str) -> None:
    assert predict.PredictRequest(ticker=ticker).ticker == ticker.upper()


@pytest.mark.parametrize("ticker", ["_GSPC", "A/B", "A B", "A" * 25, ""])
def test_a_ticker_that_no_exchange_has_is_refused(ticker: str) -> None:
    with pytest.raises(ValidationError, match=r"up to 23 letters, digits and \. - _ = &"):
        predict.PredictRequest(ticker=ticker)


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


DATES = [
    (kind, name)
    for kind in request_schemas()
    for name, field in kind.model_fields.items()
    if date in leaves(field.annotation)
]


def test_the_dates_are_found() -> None:
    assert {name for _, name in DATES} == {"start", "end", "start_date", "end_date", "as_of"}


@pytest.mark.parametrize("value", [0, 20181231, "20181231", "0", "1e9", " 5 ", 17896.0, True, "inf"])
@pytest.mark.parametrize(("kind", "name"), DATES, ids=[f"{kind.__name__}.{name}" for kind, name in DATES])
def test_a_number_is_no_date(kind: type[Request], name: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        kind.model_validate({name: value})

    faults = {fault["loc"]: fault["msg"] for fault in refused.value.errors()}
    assert faults[(name,)] == "Input should be a date such as 2018-12-31, not a number"


def test_a_date_of_an_address_is_no_number(app: FastAPI) -> None:
    answer = TestClient(app).get("/analysis/^GSPC?start=0")

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "start")


def test_a_training_does_not_name_what_it_may_only_win() -> None:
    with pytest.raises(ValidationError, match="two different aliases"):
        TrainRequest(ticker="^GSPC", alias="mine", promote_to="mine")
    assert TrainRequest(ticker="^GSPC", alias="mine", promote_to="default").alias == "mine"
