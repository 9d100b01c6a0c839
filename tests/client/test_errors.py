"""What an error status becomes: the class of its code, with what the service told."""

import httpx2
import pytest

import errors
from client import AnswerNotUnderstood, Client, MalformedRequest, RefusedByService, ServiceUnreachable
from errors import AppError, InsufficientHistory, InvalidRequest
from routers.problems import problem_of

KINDS = sorted(
    {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AppError)},
    key=lambda kind: kind.code,
)


def client_of(status: int, content: bytes) -> Client:
    return Client(
        "http://service",
        attempts=1,
        transport=httpx2.MockTransport(lambda _: httpx2.Response(status, content=content)),
    )


def made(kind: type[AppError]) -> AppError:
    error = AppError.restored(kind.code, "what happened")
    assert error is not None
    return error


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_every_error_of_the_service_is_the_same_error_here(kind: type[AppError]) -> None:
    sent = problem_of(made(kind), "r1")

    with pytest.raises(AppError) as failure:
        client_of(kind.status_code, sent.model_dump_json().encode()).up()

    assert type(failure.value) is kind
    assert failure.value.message == "what happened"
    assert failure.value.context["request_id"] == "r1"


def test_the_facts_of_an_error_are_its_context() -> None:
    sent = problem_of(InsufficientHistory("^GSPC", needed=304, found=251), "r1")

    with pytest.raises(InsufficientHistory) as failure:
        client_of(409, sent.model_dump_json().encode()).up()

    assert failure.value.context["needed"] == 304


def test_a_malformed_request_names_its_fields() -> None:
    body = b"""{"type": "urn:stock-forecast:malformed_request", "title": "Malformed request", "status": 422,
        "detail": "body.horizon: too large", "code": "malformed_request", "request_id": "r1"}"""

    with pytest.raises(MalformedRequest, match=r"body\.horizon"):
        client_of(422, body).up()


def test_facts_named_like_arguments_harm_nobody() -> None:
    body = b"""{"type": "x", "title": "x", "status": 404, "detail": "d", "code": "model_not_found", "request_id": "r1",
        "message": "m", "self": "s", "retry_after_s": 7, "nested": {"a": 1}}"""

    with pytest.raises(errors.ModelNotFound) as failure:
        client_of(404, body).up()

    assert failure.value.context == {"request_id": "r1"}


def test_a_code_of_a_later_service_is_told_as_it_is() -> None:
    body = b"""{"type": "x", "title": "x", "status": 418, "detail": "d", "code": "teapot", "request_id": "r1"}"""

    with pytest.raises(RefusedByService) as failure:
        client_of(418, body).up()

    assert failure.value.context["answered"] == "teapot"
    assert failure.value.context["status"] == 418


@pytest.mark.parametrize(("status", "kind"), [(502, ServiceUnreachable), (404, AnswerNotUnderstood)])
def test_an_error_page_of_somebody_else_is_no_problem_of_ours(status: int, kind: type[AppError]) -> None:
    with pytest.raises(kind):
        client_of(status, b"<html>no</html>").up()


def test_an_answer_of_somebody_else_is_not_understood() -> None:
    with pytest.raises(AnswerNotUnderstood, match="no Up"):
        client_of(200, b"<html>hello</html>").up()


def test_a_field_of_a_later_service_is_ignored() -> None:
    assert client_of(200, b'{"status": "ok", "uptime_s": 5}').up().status == "ok"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "", "http://host:port"])
def test_what_is_no_address_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        Client(url)
