"""What is tried again, how long after, and what never is."""

import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from client import Client, ServiceTimedOut, ServiceUnreachable
from errors import AppError, PricesRateLimited, StoreUnavailable, TrainingCapacityExceeded
from schemas.predict import PredictRequest
from schemas.train import TrainRequest
from tests.processes import free_port

UP = httpx2.Response(200, json={"status": "ok"})
JOB_ID = "20261121t093000-1a2b3c4d"
Answer = httpx2.Response | Exception


def problem(code: str, status: int, **headers: str) -> httpx2.Response:
    body = {"type": f"urn:stock-forecast:{code}", "title": code, "status": status, "detail": "why", "code": code}
    return httpx2.Response(status, json=body | {"request_id": "r1"}, headers=headers)


def job(state: str, **headers: str) -> httpx2.Response:
    """A job as it stands in a state; of one that is over, the end."""
    moment = "2026-11-21T09:30:00Z"
    body = {
        "id": JOB_ID,
        "state": state,
        "cancel_requested": False,
        "created_at": moment,
        "started_at": moment,
        "ended_at": moment if state == "succeeded" else None,
        "model_id": "gspc-20261121-1a2b3c4d",
        "request": {"ticker": "^GSPC"},
        "retry_of": None,
        "progress": None,
        "result": None,
        "error": None,
    }
    return httpx2.Response(200, json=body, headers=headers)


class Script:
    """Answers one after the other, and remembers what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, attempts: int = 3) -> Client:
        return Client("http://service", attempts=attempts, transport=httpx2.MockTransport(self))


def test_a_broken_connection_is_tried_again() -> None:
    script = Script(httpx2.ConnectError("refused"), UP)

    assert script.client().up().status == "ok"


def test_a_pause_asked_for_is_kept() -> None:
    script = Script(problem("prices_rate_limited", 503, **{"Retry-After": "1"}), UP)

    started = time.monotonic()
    script.client().up()

    assert time.monotonic() - started >= 1.0


def test_a_pause_that_is_too_long_is_told_instead_of_kept() -> None:
    script = Script(problem("too_many_trainings", 429, **{"Retry-After": "30"}))

    with pytest.raises(TrainingCapacityExceeded) as failure:
        script.client().up()

    assert failure.value.retry_after_s == 30
    assert len(script.asked) == 1


def test_the_last_failure_is_told_when_none_of_the_tries_succeeds() -> None:
    script = Script(*[problem("store_unavailable", 503, **{"Retry-After": "0"}) for _ in range(3)])

    with pytest.raises(StoreUnavailable, match="why"):
        script.client().up()

    assert len(script.asked) == 3


def test_a_forecast_is_tried_again_because_it_changes_nothing() -> None:
    script = Script(
        problem("prices_rate_limited", 503, **{"Retry-After": "0"}), problem("prices_rate_limited", 503), UP
    )

    with pytest.raises(PricesRateLimited):
        script.client(attempts=2).predict("default", PredictRequest(ticker="^GSPC"))

    assert len(script.asked) == 2


def test_a_training_tried_again_is_the_same_training() -> None:
    script = Script(httpx2.ReadError("reset"), problem("ticker_not_found", 404))

    with pytest.raises(AppError):
        script.client().train(TrainRequest(ticker="NOPE"))

    first, second = (request.headers["Idempotency-Key"] for request in script.asked)
    assert first == second


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.delete_model("a-1"),
        lambda client: client.cancel_job("20261121t093000-1a2b3c4d"),
        lambda client: client.retry_job("20261121t093000-1a2b3c4d"),
    ],
    ids=["delete", "cancel", "retry"],
)
def test_what_would_not_be_the_same_a_second_time_is_told_once(call: Callable[[Client], object]) -> None:
    script = Script(httpx2.ReadError("reset"))

    with pytest.raises(ServiceUnreachable):
        call(script.client())

    assert len(script.asked) == 1


def test_an_answer_that_does_not_come_in_time_is_not_asked_for_again() -> None:
    script = Script(httpx2.ReadTimeout("slow"))

    with pytest.raises(ServiceTimedOut):
        script.client().up()

    assert len(script.asked) == 1


def test_a_mistake_of_the_caller_is_not_repeated() -> None:
    script = Script(problem("malformed_request", 422))

    with pytest.raises(AppError):
        script.client().up()

    assert len(script.asked) == 1


def test_a_job_is_looked_at_when_the_service_says() -> None:
    script = Script(job("running", **{"Retry-After": "1"}), job("succeeded"))

    started = time.monotonic()
    ended = script.client().follow(JOB_ID)

    assert time.monotonic() - started >= 1.0
    assert ended.state == "succeeded"


def test_a_job_is_looked_at_more_often_where_the_caller_says_so() -> None:
    script = Script(job("running", **{"Retry-After": "3600"}), job("succeeded"))
    seen: list[str] = []

    with Client("http://service", poll_s=0.01, transport=httpx2.MockTransport(script)) as client:
        client.follow(JOB_ID, lambda one: seen.append(one.state))

    assert seen == ["running", "succeeded"]


def test_a_service_that_can_forecast_nothing_is_no_error_but_its_health() -> None:
    health = {"status": "unavailable", "model_loaded": False, "model_id": None, "reasons": []}
    script = Script(httpx2.Response(503, json=health | {"timestamp": "2026-11-21T09:30:00Z"}))

    assert script.client().health().status == "unavailable"


def test_a_gateway_without_a_service_has_no_health() -> None:
    script = Script(httpx2.Response(503, content=b"<html>"))

    with pytest.raises(ServiceUnreachable):
        script.client().health()


def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", attempts=1) as client, pytest.raises(ServiceUnreachable):
        client.up()
