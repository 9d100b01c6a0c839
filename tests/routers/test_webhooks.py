"""Webhooks through the routes, the server's own thread and the worker, to a real receiver on loopback."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import worker
from config import Settings
from errors import TrainingCapacityExceeded
from services.access import new_key
from services.jobs.executor import Submit
from services.webhooks.addresses import WebhookPolicy
from services.webhooks.deliveries import OPEN, WEBHOOKS
from tests.fakes import InlineExecutor, InMemoryArtifactStore, application
from tests.routers.conftest import NOW
from tests.webhook_receiver import Receiver, receiving

TRAINING = {"ticker": "WALK", "sequence_length": 20, "model": "ewma"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WITHIN_S = 10.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def webhook(app: FastAPI, receiver: Receiver) -> dict[str, str]:
    """One that the application may deliver."""
    app.state.runtime.webhook_policy = WebhookPolicy(allow_http=True, allow_private=True)
    return {"url": receiver.url, "secret": SECRET}


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_training_is_announced_and_no_answer_has_the_secret(
    app: FastAPI, client: TestClient, webhook: dict[str, str], receiver: Receiver
) -> None:
    answer = client.post("/models/train", json={**TRAINING, "webhook": webhook})
    location = answer.headers["location"]
    before = client.get(location).json()["webhook"]
    app.state.runtime.announcements.deliver_due()
    after = client.get(location).json()["webhook"]

    assert before == {
        "host": "127.0.0.1", "state": "waiting", "attempts": 0, "last_error": None, "next_attempt_at": None
    }  # fmt: skip
    assert after == {**before, "state": "delivered", "attempts": 1}
    assert json.loads(receiver.received[0].body)["type"] == "job.succeeded"
    for shown in (
        answer,
        client.get(location),
        client.get("/jobs"),
        client.get(f"/models/{answer.json()['result']['id']}"),
    ):
        assert shown.is_success
        assert SECRET not in shown.text
        assert "path-secret" not in shown.text


def test_a_short_backtest_with_a_webhook_is_a_job(
    app: FastAPI, client: TestClient, webhook: dict[str, str], receiver: Receiver, model_id: str
) -> None:
    request = {"horizon": 1, "stride": 50, "webhook": webhook}
    first = client.post(f"/models/{model_id}/backtest", json=request)
    again = client.post(f"/models/{model_id}/backtest", json=request)
    app.state.runtime.announcements.deliver_due()

    assert first.headers["location"] == again.headers["location"]  # the same backtest with the same webhook
    assert first.json() == client.post(f"/models/{model_id}/backtest", json={"horizon": 1, "stride": 50}).json()
    (message,) = [json.loads(one.body) for one in receiver.received]
    assert message["data"]["url"] == first.headers["location"]
    assert message["data"]["kind"] == "backtest"


def test_a_run_shows_its_webhook(app: FastAPI, client: TestClient, webhook: dict[str, str]) -> None:
    class Idle(InlineExecutor):
        def _run(self, job_id: str) -> None:
            pass

    app.state.runtime.run_executor = Idle(app)

    run = client.post("/runs", json={"action": "score", "tickers": ["WALK"], "webhook": webhook}).json()

    assert (run["webhook"]["host"], run["webhook"]["state"]) == ("127.0.0.1", "waiting")
    assert "webhook" not in run["request"]
    assert SECRET not in client.get("/runs").text


@pytest.mark.parametrize("path", ["/models/train", "/models/{model_id}/backtest", "/runs"])
@pytest.mark.parametrize("url", ["https://169.254.169.254/latest", "https://localhost/", "http://example.com/"])
def test_an_address_that_is_not_allowed_starts_nothing(
    client: TestClient, store: InMemoryArtifactStore, model_id: str, path: str, url: str
) -> None:
    bodies: dict[str, dict[str, Any]] = {"/models/train": TRAINING, "/runs": {"action": "score", "tickers": ["WALK"]}}
    body = bodies.get(path, {})

    answer = client.post(path.format(model_id=model_id), json={**body, "webhook": {"url": url}})

    assert (answer.status_code, answer.json()["code"]) == (400, "webhook_refused")
    assert store.list_keys("jobs/") == store.list_keys("runs/") == store.list_keys(WEBHOOKS) == []


@pytest.mark.parametrize(
    ("webhook", "field"),
    [
        ({}, "webhook.url"),
        ({"url": ""}, "webhook.url"),
        ({"url": "https://example.com/" + "a" * 2000}, "webhook.url"),
        ({"url": "https://example.com/", "secret": "my-secret-word"}, "webhook.secret"),
        ({"url": "https://example.com/", "secret": 5}, "webhook.secret"),
        ({"url": "https://example.com/", "method": "GET"}, "webhook.method"),
        ("https://example.com/", "webhook"),
    ],
)
def test_a_malformed_webhook_is_named_and_not_repeated(client: TestClient, webhook: object, field: str) -> None:
    answer = client.post("/models/train", json={**TRAINING, "webhook": webhook})

    assert answer.status_code == 422
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert "my-secret-word" not in answer.text


def test_a_key_with_another_webhook_is_another_request(client: TestClient, webhook: dict[str, str]) -> None:
    def train(**changes: str) -> int:
        body = {**TRAINING, "webhook": {**webhook, **changes}}
        return client.post("/models/train", json=body, headers={"Idempotency-Key": "k-1"}).status_code

    assert (train(), train(), train(url=webhook["url"] + "2")) == (200, 200, 422)


def test_a_refused_training_leaves_no_delivery(
    app: FastAPI, client: TestClient, webhook: dict[str, str], store: InMemoryArtifactStore
) -> None:
    class Full(InlineExecutor):
        @contextmanager
        def slot(self) -> Iterator[Submit]:
            raise TrainingCapacityExceeded("full")
            yield

    app.state.runtime.executor = Full(app)

    assert client.post("/models/train", json={**TRAINING, "webhook": webhook}).status_code == 429
    assert store.list_keys(WEBHOOKS) == []


def test_a_webhook_of_a_backtest_needs_the_right_to_train(
    tmp_path: Path, store: InMemoryArtifactStore, receiver: Receiver
) -> None:
    key, entry = new_key("reader", ["read"])
    settings = Settings(_env_file=None, data_dir=tmp_path, price_source="sample", api_keys=entry.entry)
    with TestClient(application(settings, clock=lambda: NOW, store=store)) as client:
        body = {"webhook": {"url": "https://example.com/"}}
        answer = client.post("/models/default/backtest", json=body, headers={"X-API-Key": key})

    assert (answer.status_code, answer.json()["missing_right"]) == (403, "train")


def test_a_server_delivers_at_its_start_what_another_process_left(
    app: FastAPI, webhook: dict[str, str], receiver: Receiver, store: InMemoryArtifactStore
) -> None:
    client = TestClient(app)  # without the threads of a server
    client.post("/models/train", json={**TRAINING, "webhook": webhook})
    assert receiver.received == []

    with client:
        wait_for(lambda: not store.list_keys(OPEN))

    assert len(receiver.received) == 1


@pytest.mark.parametrize("how", ["worker", "schedule"])
def test_the_worker_and_the_schedule_of_lambda_deliver(
    app: FastAPI, webhook: dict[str, str], receiver: Receiver, how: str
) -> None:
    class Idle(InlineExecutor):
        def _run(self, job_id: str) -> None:
            if how == "schedule":
                super()._run(job_id)

    app.state.runtime.executor = Idle(app)
    body = {**TRAINING, "webhook": webhook}
    TestClient(app).post("/models/train", json=body, headers={"Prefer": "respond-async"})
    (job,) = app.state.runtime.jobs.page(1, None, NOW).jobs

    if how == "worker":
        worker.work(app.state.runtime, job.id)
    else:
        worker.on_event(app.state.runtime, {"task": "webhooks"}, None)

    assert [one.headers["webhook-id"] for one in receiver.received] == [f"job_{job.id}"]
