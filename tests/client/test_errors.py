"""What an error status becomes: the class of its code, with the facts that the service sent."""

import sys

import httpx2
import pytest

import errors as server
from error_handlers import HTTP_CODES
from routers.problems import problem_of
from stock_forecast_client import Client, StockForecastError, errors
from tests.client.conftest import client_of, problem

KINDS = sorted(
    {kind for kind in vars(server).values() if isinstance(kind, type) and issubclass(kind, server.AppError)},
    key=lambda kind: kind.code,
)


def raised(answer: httpx2.Response) -> StockForecastError:
    with pytest.raises(StockForecastError) as failure:
        client_of(answer, attempts=1).up()
    return failure.value


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_error_of_the_service_has_the_same_name_code_and_parent_here(kind: type[server.AppError]) -> None:
    sent = server.AppError.restored(kind.code, "what happened")
    assert sent is not None

    error = raised(httpx2.Response(kind.status_code, content=problem_of(sent, "r1").model_dump_json()))

    assert (error.code, error.status_code, error.message) == (kind.code, kind.status_code, "what happened")
    assert error.context == {"request_id": "r1"}
    if kind is not server.AppError:
        parents = [base.__name__ for base in kind.__mro__ if issubclass(base, server.AppError)][:-1]
        assert [base.__name__ for base in type(error).__mro__][: len(parents)] == parents


def test_the_facts_of_an_error_are_its_context() -> None:
    sent = problem_of(server.InsufficientHistory("^GSPC", needed=304, found=251), "r1")

    error = raised(httpx2.Response(409, content=sent.model_dump_json()))

    assert error.context["needed"] == 304


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("malformed_request", 422, errors.MalformedRequest),
        (HTTP_CODES[413], 413, errors.RequestTooLarge),
        ("of_a_later_service", 404, errors.NotFound),
        ("of_a_later_service", 503, errors.UpstreamUnavailable),
        ("of_a_later_service", 418, StockForecastError),
    ],
)
def test_a_code_has_its_class_and_an_unknown_code_that_of_its_status(
    code: str, status: int, kind: type[StockForecastError]
) -> None:
    error = raised(problem(code, status))

    assert type(error) is kind
    assert (error.code, error.status_code) == (code, status)


def test_only_plain_facts_enter_the_context() -> None:
    error = raised(problem("model_not_found", 404, message="m", retry_after_s=7, nested={"a": 1}))

    assert error.message == "why"
    assert error.context == {"request_id": "r1", "message": "m", "retry_after_s": 7}


@pytest.mark.parametrize("content", [b"<html>no</html>", b"[]", b"null", b'{"code": "x"}'])
@pytest.mark.parametrize(("status", "kind"), [(502, errors.ServiceUnreachable), (404, errors.UnexpectedResponse)])
def test_an_error_page_of_another_program_is_not_a_problem_of_the_api(
    status: int, kind: type[StockForecastError], content: bytes
) -> None:
    assert type(raised(httpx2.Response(status, content=content))) is kind


def test_an_answer_of_another_program_is_unexpected() -> None:
    error = raised(httpx2.Response(200, content=b"<html>hello</html>"))

    assert isinstance(error, errors.UnexpectedResponse)
    assert "not a Up" in error.message


def test_a_field_of_a_later_service_is_ignored() -> None:
    assert client_of(httpx2.Response(200, json={"status": "ok", "uptime_s": 5})).up().status == "ok"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "", "http://host:port"])
def test_a_wrong_address_is_rejected(url: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="expected an address such as"):
        Client(url)


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = {"ticker": "^GSPC", "data": [], "currency": "USD", "source": "sample", "as_of": "2018-12-31"}
    flags = {"stale": False, "demo": True, "dropped": {}, "repaired": {}}
    answer = client_of(httpx2.Response(200, json=prices | flags)).fetch_data(ticker="^GSPC", days=1)
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(ImportError, match=r"pip install 'stock-forecast-client\[pandas\]'"):
        answer.to_dataframe()
