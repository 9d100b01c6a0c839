"""Which calls are tried again, after how long, and which never."""

import asyncio
import time
from collections.abc import Callable

import httpx2
import pytest

from stock_forecast_client import AsyncClient, Client, StockForecastError, _core
from stock_forecast_client.errors import ServiceTimedOut, ServiceUnreachable, StoreUnavailable, TrainingCapacityExceeded
from tests.client.conftest import JOB_ID, Script, job_body, problem
from tests.processes import free_port

UP = httpx2.Response(200, json={"status": "ok"})


def job(state: str, retry_after: int | None = None) -> httpx2.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return httpx2.Response(200, json=job_body(state), headers=headers)


def test_a_broken_connection_is_tried_again_after_a_pause() -> None:
    script = Script(httpx2.ConnectError("refused"), problem("prices_rate_limited", 503, retry_after=1), UP)

    started = time.monotonic()

    assert script.client().up().status == "ok"
    assert time.monotonic() - started >= 1.0  # as the service asks


def test_both_clients_keep_to_the_same_rules() -> None:
    async def run(script: Script) -> str:
        async with AsyncClient("http://service", transport=httpx2.MockTransport(script)) as client:
            return (await client.up()).status

    assert asyncio.run(run(Script(problem("store_unavailable", 503, retry_after=0), UP))) == "ok"
    with pytest.raises(StoreUnavailable):
        asyncio.run(run(Script(problem("store_unavailable", 503, retry_after=0))))


def test_a_pause_that_is_too_long_is_an_error_at_once() -> None:
    script = Script(problem("too_many_trainings", 429, retry_after=30))

    with pytest.raises(TrainingCapacityExceeded) as failure:
        script.client().up()

    assert failure.value.retry_after_s == 30
    assert len(script.requests) == 1


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_the_last_failure_is_raised_when_no_try_succeeds(attempts: int) -> None:
    script = Script(problem("store_unavailable", 503, retry_after=0))

    with pytest.raises(StoreUnavailable, match="why"):
        script.client(attempts).predict(ticker="^GSPC")

    assert len(script.requests) == attempts


def test_a_training_tried_again_is_the_same_training() -> None:
    script = Script(httpx2.ReadError("reset"), problem("ticker_not_found", 404))

    with pytest.raises(StockForecastError):
        script.client().train(ticker="NOPE")

    first, second = (request.headers["Idempotency-Key"] for request in script.requests)
    assert first == second


@pytest.mark.parametrize(
    "call",
    [lambda c: c.delete_model("a-1"), lambda c: c.cancel_job(JOB_ID), lambda c: c.retry_job(JOB_ID)],
    ids=["delete", "cancel", "retry"],
)
def test_a_call_that_is_not_repeatable_is_sent_once(call: Callable[[Client], object]) -> None:
    script = Script(httpx2.ReadError("reset"))

    with pytest.raises(ServiceUnreachable):
        call(script.client())

    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx2.ReadTimeout("slow"), ServiceTimedOut),  # the service may still be working on it
        (problem("malformed_request", 422), StockForecastError),  # the same request fails again
    ],
)
def test_another_try_that_makes_no_sense_is_not_made(
    answer: httpx2.Response | Exception, kind: type[StockForecastError]
) -> None:
    script = Script(answer)

    with pytest.raises(kind):
        script.client().up()

    assert len(script.requests) == 1


def test_a_job_is_polled_as_often_as_the_service_says() -> None:
    script = Script(job("running", retry_after=1), job("succeeded"))

    started = time.monotonic()
    ended = script.client().follow(JOB_ID)

    assert time.monotonic() - started >= 1.0
    assert ended.state == "succeeded"


def test_a_job_is_polled_as_often_as_the_caller_says() -> None:
    script = Script(job("running", retry_after=3600), job("succeeded"))
    seen: list[str] = []

    script.client(poll_s=0.01).follow(JOB_ID, lambda one: seen.append(one.state))

    assert seen == ["running", "succeeded"]


def test_a_job_is_followed_while_the_store_of_the_service_fails() -> None:
    down = problem("store_unavailable", 503)
    script = Script(job("running"), down, down, job("running"), down, job("succeeded"))

    assert script.client(attempts=1, poll_s=0.01).follow(JOB_ID).state == "succeeded"


def test_a_store_that_stays_down_ends_the_wait_with_the_id_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_core, "PATIENCE_S", 0.05)
    script = Script(problem("store_unavailable", 503))

    with pytest.raises(StoreUnavailable) as failure:
        script.client(attempts=1, poll_s=0.01).follow(JOB_ID)

    assert failure.value.context["job_id"] == JOB_ID
    assert len(script.requests) > 1


def test_the_health_of_a_service_that_cannot_forecast_is_an_answer() -> None:
    health = {"status": "unavailable", "model_loaded": False, "model_id": None, "reasons": []}
    script = Script(httpx2.Response(503, json=health | {"timestamp": "2026-11-21T09:30:00Z"}))

    assert script.client().health().status == "unavailable"


def test_a_gateway_without_a_service_has_no_health() -> None:
    with pytest.raises(ServiceUnreachable):
        Script(httpx2.Response(503, content=b"<html>")).client().health()


def test_a_port_without_a_server_is_unreachable() -> None:
    with Client(f"http://127.0.0.1:{free_port()}", attempts=1) as client, pytest.raises(ServiceUnreachable):
        client.up()
