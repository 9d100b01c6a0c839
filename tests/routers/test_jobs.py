import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from errors import ArtifactCorrupt, StoreUnavailable, TrainingCapacityExceeded
from routers.jobs import read_preference
from services.jobs.job import Jobs
from tests.fakes import (
    FakePriceSource,
    InlineExecutor,
    InMemoryArtifactStore,
    UnreliableStore,
    use_prices,
    walk_history,
)

TRAINING = {"ticker": "WALK", "epochs": 1, "sequence_length": 20, "model": "volatility_regression"}
ASYNC = {"Prefer": "respond-async"}


class IdleExecutor(InlineExecutor):
    """Accepts every job and runs none."""

    def _run(self, job_id: str) -> None:
        pass


@pytest.fixture
def idle(app: FastAPI) -> None:
    app.state.runtime.executor = IdleExecutor(app)


def train(client: TestClient, headers: dict[str, str] | None = None, **changes: Any) -> httpx2.Response:
    return client.post("/models/train", json={**TRAINING, **changes}, headers=headers)


@pytest.mark.parametrize("how", ["header", "query"])
@pytest.mark.usefixtures("idle")
def test_an_asynchronous_training_is_answered_with_its_job(client: TestClient, how: str) -> None:
    preference: dict[str, Any] = {"headers": ASYNC} if how == "header" else {"params": {"async": "true"}}

    answer = client.post("/models/train", json=TRAINING, **preference)

    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert answer.headers["preference-applied"] == "respond-async"
    assert int(answer.headers["retry-after"]) > 0
    assert job["state"] == "queued"


def test_a_finished_job_has_its_result(client: TestClient) -> None:
    location = train(client, ASYNC).headers.get("location") or f"/jobs/{client.get('/jobs').json()['jobs'][0]['id']}"

    job = client.get(location).json()

    assert job["state"] == "succeeded"
    assert client.get(f"/models/{job['result']['id']}").status_code == 200


@pytest.mark.usefixtures("idle")
def test_a_wait_that_ends_before_the_job_is_answered_with_the_job(client: TestClient) -> None:
    started = time.monotonic()

    answer = train(client, {"Prefer": "wait=1"})

    assert answer.status_code == 202
    assert time.monotonic() - started < 10
    assert "preference-applied" not in answer.headers


def test_a_server_may_wait_less_than_the_caller(app: FastAPI, client: TestClient) -> None:
    app.state.runtime.executor = IdleExecutor(app)
    app.state.runtime.settings = app.state.runtime.settings.model_copy(update={"train_wait_s": 0})

    assert train(client, {"Prefer": "wait=600"}).status_code == 202


@pytest.mark.parametrize(
    ("header", "max_wait_s"),
    [
        ("", 60),
        ("respond-async", 0),
        ("wait=5", 5),
        ('respond-async, wait="7"', 7),
        ("Respond-Async;foo=1", 0),
        ("wait=9999", 60),
        ("handling=lenient, return=minimal", 60),
        ("wait=soon", 60),
        (",,;=", 60),
    ],
)
def test_preferences_are_read_and_unknown_ones_ignored(header: str, max_wait_s: float) -> None:
    assert read_preference(header).max_wait_s(60) == max_wait_s


def test_the_same_key_is_the_same_job(client: TestClient) -> None:
    first = train(client, {"Idempotency-Key": "k-1"}).json()
    again = train(client, {"Idempotency-Key": "k-1"}).json()

    assert first == again
    assert len(client.get("/jobs").json()["jobs"]) == 1


def test_the_same_key_with_another_body_is_422(client: TestClient) -> None:
    train(client, {"Idempotency-Key": "k-1"})

    answer = train(client, {"Idempotency-Key": "k-1"}, epochs=2)

    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("key", ["", "with space", "x" * 201, "tab\there"])
def test_a_malformed_key_is_422(client: TestClient, key: str) -> None:
    answer = train(client, {"Idempotency-Key": key})

    assert answer.status_code == 422
    assert "idempotency-key" in answer.json()["detail"]


@pytest.mark.parametrize("job_id", ["nope", "20240719T220000-1a2b3c4d", "..%2f..%2fetc", "20240719t220000-1a2b3c4d%00"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_malformed_job_id_is_refused(client: TestClient, method: str, job_id: str) -> None:
    assert client.request(method, f"/jobs/{job_id}").status_code in (404, 422)


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/retry")])
def test_an_unknown_job_is_404(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"/jobs/20240719t220000-00000000{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")


@pytest.mark.usefixtures("idle")
def test_a_waiting_job_is_cancelled(client: TestClient) -> None:
    location = train(client, ASYNC).headers["location"]

    answer = client.delete(location)

    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")


@pytest.mark.usefixtures("idle")
def test_a_running_job_will_be_cancelled(client: TestClient, app: FastAPI) -> None:
    job_id = train(client, ASYNC).json()["id"]
    jobs: Jobs = app.state.runtime.jobs
    now: datetime = app.state.runtime.clock()
    jobs.claim(jobs.spec(job_id), "w1", now)

    answer = client.delete(f"/jobs/{job_id}")

    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)


def test_a_failed_job_is_answered_as_its_error_and_can_be_retried(client: TestClient) -> None:
    failed = train(client, ticker="NOPE")

    retried = client.post(f"/jobs/{failed.json()['job_id']}/retry")

    assert (failed.status_code, failed.json()["code"]) == (404, "ticker_not_found")
    assert retried.status_code == 202
    assert retried.json()["retry_of"] == failed.json()["job_id"]


def test_a_caller_who_waits_for_a_job_that_is_cancelled_gets_job_cancelled(client: TestClient, app: FastAPI) -> None:
    class Cancelling(InlineExecutor):
        def _run(self, job_id: str) -> None:
            app.state.runtime.jobs.cancel(job_id, app.state.runtime.clock())

    app.state.runtime.executor = Cancelling(app)

    answer = train(client)

    assert (answer.status_code, answer.json()["code"]) == (409, "job_cancelled")


def test_a_full_queue_is_429_with_retry_after(client: TestClient, app: FastAPI) -> None:
    class Full(InlineExecutor):
        def slot(self) -> Any:
            raise TrainingCapacityExceeded("full", retry_after_s=30)

    app.state.runtime.executor = Full(app)

    answer = train(client)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30")
    assert client.get("/jobs").json()["jobs"] == []


@pytest.mark.usefixtures("idle")
def test_jobs_are_paged_newest_first(client: TestClient) -> None:
    ids = {train(client, ASYNC).json()["id"] for _ in range(3)}

    first = client.get("/jobs", params={"limit": 2}).json()
    second = client.get("/jobs", params={"limit": 2, "after": first["next_after"]}).json()

    assert [job["id"] for job in (*first["jobs"], *second["jobs"])] == sorted(ids, reverse=True)
    assert second["next_after"] is None


def test_a_job_shows_the_request_in_a_form_that_can_be_sent_again(client: TestClient) -> None:
    train(client)
    request = client.get("/jobs").json()["jobs"][0]["request"]

    assert client.post("/models/train", json=request).status_code == 200


def test_a_store_that_refuses_the_job_trains_nothing(client: TestClient, app: FastAPI) -> None:
    app.state.runtime.jobs = Jobs(UnreliableStore(down=True))

    answer = train(client)

    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")


@pytest.mark.usefixtures("idle")
def test_a_universe_that_does_not_exist_is_404_and_makes_no_job(client: TestClient) -> None:
    answer = client.post("/models/train", json={"universe": "nowhere"})

    assert answer.status_code == 404
    assert answer.json()["code"] == "universe_not_found"
    assert client.get("/jobs").json()["jobs"] == []


@pytest.mark.usefixtures("idle")
def test_a_universe_is_trained_for_up_to_an_hour(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "universes" / "walks").mkdir(parents=True)
    (tmp_path / "universes" / "walks" / "AAA.csv").touch()

    answer = client.post("/models/train", json={"universe": "walks"}, headers=ASYNC)

    assert answer.status_code == 202
    assert answer.json()["request"]["max_seconds"] == 3600


@pytest.mark.usefixtures("idle")
def test_where_lambda_trains_a_universe_needs_a_server(app: FastAPI, client: TestClient) -> None:
    settings = app.state.runtime.settings
    app.state.runtime.settings = settings.model_copy(update={"trainer_function_name": "trainer"})

    answer = client.post("/models/train", json={"universe": "walks"})

    assert answer.status_code == 501
    assert "server with a disk" in answer.json()["detail"]


def use_jobs(app: FastAPI, store: InMemoryArtifactStore) -> None:
    """Let the jobs, but nothing else, be in this store."""
    app.state.runtime.jobs = Jobs(store)


class FailsAfterSubmission(InlineExecutor):
    """Submits the job, and then its store fails for some reads."""

    def __init__(self, app: FastAPI, store: "FailingReads", n_reads: int, *, trains: bool = True) -> None:
        super().__init__(app)
        self._reads, self._n_reads, self._trains = store, n_reads, trains

    def _run(self, job_id: str) -> None:
        if self._trains:
            super()._run(job_id)
        self._reads.n_failing = self._n_reads


class FailingReads(InMemoryArtifactStore):
    """Its next reads fail."""

    n_failing = 0
    error: Exception = StoreUnavailable("the store is down", retry_after_s=5)

    def get(self, key: str) -> bytes:
        if self.n_failing > 0:
            self.n_failing -= 1
            raise self.error
        return super().get(key)


@pytest.mark.parametrize("n_reads", [1, 2, 5])
def test_a_wait_goes_on_while_the_store_fails(client: TestClient, app: FastAPI, n_reads: int) -> None:
    store = FailingReads()
    use_jobs(app, store)
    app.state.runtime.executor = FailsAfterSubmission(app, store, n_reads)

    answer = train(client)

    job_id = client.get("/jobs").json()["jobs"][0]["id"]
    assert (answer.status_code, answer.headers["location"]) == (200, f"/jobs/{job_id}")
    assert answer.json()["result"]["id"]


def test_a_store_that_stays_down_ends_the_wait_with_202_and_the_job(client: TestClient, app: FastAPI) -> None:
    store = FailingReads()
    use_jobs(app, store)
    app.state.runtime.executor = FailsAfterSubmission(app, store, 10**6)

    answer = train(client, {"Prefer": "wait=1"})

    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"


@pytest.mark.parametrize("error", [ArtifactCorrupt("damaged"), RuntimeError("a bug")], ids=["corrupt", "bug"])
def test_a_final_failure_names_the_job_that_was_made(client: TestClient, app: FastAPI, error: Exception) -> None:
    store = FailingReads()
    store.error = error
    use_jobs(app, store)
    app.state.runtime.executor = FailsAfterSubmission(app, store, 1)

    answer = train(client)

    job_id = client.get("/jobs").json()["jobs"][0]["id"]
    assert answer.status_code == 500
    assert (answer.json()["job_id"], answer.json()["job_url"]) == (job_id, f"/jobs/{job_id}")
    assert answer.headers["location"] == f"/jobs/{job_id}"
    assert client.get(answer.headers["location"]).json()["state"] == "succeeded"


def test_a_failed_training_names_its_job(client: TestClient) -> None:
    answer = train(client, ticker="NOPE")

    assert answer.status_code == 404
    assert answer.headers["location"] == answer.json()["job_url"] == f"/jobs/{answer.json()['job_id']}"


def test_a_retry_whose_job_cannot_be_read_returns_it_as_waiting(client: TestClient, app: FastAPI) -> None:
    store = FailingReads()
    use_jobs(app, store)
    failed = train(client, ticker="NOPE").json()["job_id"]
    app.state.runtime.executor = FailsAfterSubmission(app, store, 1, trains=False)

    answer = client.post(f"/jobs/{failed}/retry")

    assert (answer.status_code, answer.json()["state"], answer.json()["retry_of"]) == (202, "queued", failed)
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"


class Throttled(InlineExecutor):
    """Refuses every job after it was stored, as Lambda does."""

    def _run(self, job_id: str) -> None:
        raise TrainingCapacityExceeded("the trainer is busy", retry_after_s=30)


@pytest.mark.parametrize("route", ["train", "retry", "retrain"])
def test_a_job_that_was_refused_is_named_and_can_be_read(client: TestClient, app: FastAPI, route: str) -> None:
    first = train(client, ticker="NOPE").json()["job_id"]
    app.state.runtime.registry.move_alias("default", app.state.runtime.registry.ids()[0], app.state.runtime.clock())
    use_prices(app, FakePriceSource(walk_history(n_sessions=700)))
    app.state.runtime.executor = Throttled(app)
    path, body = {
        "train": ("/models/train", TRAINING),
        "retry": (f"/jobs/{first}/retry", None),
        "retrain": ("/monitoring/retrain", {"ticker": "WALK", "only_on_drift": False}),
    }[route]

    answer = client.post(path, json=body)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "30"), answer.text
    job = client.get(answer.headers["location"]).json()
    assert job["id"] == answer.json()["job_id"] != first
    assert (job["state"], job["error"]["code"]) == ("failed", "too_many_trainings")


def test_a_caller_that_was_refused_may_try_again_with_its_key(client: TestClient, app: FastAPI) -> None:
    willing, app.state.runtime.executor = app.state.runtime.executor, Throttled(app)
    refused = train(client, {"Idempotency-Key": "k-1"})
    app.state.runtime.executor = willing

    answer = train(client, {"Idempotency-Key": "k-1"})
    again = train(client, {"Idempotency-Key": "k-1"})

    assert (refused.status_code, answer.status_code) == (429, 200)
    assert again.json() == answer.json()
    assert len(client.get("/jobs").json()["jobs"]) == 2


def test_a_damaged_job_hides_no_other(client: TestClient, app: FastAPI) -> None:
    store = InMemoryArtifactStore()
    use_jobs(app, store)
    train(client)
    damaged = "20240719t230000-0000dead"
    store.put(f"jobs/{damaged}/spec.json", b"not JSON")

    answer = client.get("/jobs")

    assert answer.status_code == 200
    assert len(answer.json()["jobs"]) == 1
    assert answer.json()["unreadable"] == [damaged]
