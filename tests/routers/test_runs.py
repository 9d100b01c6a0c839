import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from errors import RunCapacityExceeded
from routers.runs import PARQUET
from schemas.run import RunSpec
from services.jobs.executor import OnExit, Submit
from services.runs import results
from services.runs.coordinate import coordinate
from services.runs.pieces import Piece
from services.runs.runs import Runs
from services.runs.work import work_chunk
from tests.fakes import InMemoryArtifactStore

FORECAST = {"action": "forecast", "tickers": ["WALK", "NOPE"], "horizon": 2}
UNKNOWN = "20240719t220000-00000000"


class InlineRuns:
    """Works on every round and every chunk at once, in the calling thread."""

    name = "inline"

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield self._run

    @contextmanager
    def engine(self, _spec: RunSpec, _: OnExit) -> Iterator["InlineRuns"]:
        yield self

    def close(self) -> None:
        pass

    def _run(self, text: str) -> None:
        runtime, piece = self._app.state.runtime, Piece.parse(text)
        assert piece is not None
        context = runtime.run_context()
        if piece.chunk is None:
            coordinate(piece, "coordinator", context, lambda _: runtime.prices, self.engine)
        else:
            work_chunk(piece, text, context)


class IdleRuns(InlineRuns):
    """Accepts every round, and begins none."""

    def _run(self, text: str) -> None:
        pass


@pytest.fixture
def client(app: FastAPI, client: TestClient, store: InMemoryArtifactStore, default: str) -> TestClient:
    app.state.runtime.runs = Runs(store)
    app.state.runtime.run_executor = InlineRuns(app)
    return client


def start(client: TestClient, **changes: Any) -> httpx2.Response:
    return client.post("/runs", json={**FORECAST, **changes})


def test_a_run_is_accepted_with_its_address_and_then_read(client: TestClient) -> None:
    answer = start(client)

    run = client.get(answer.headers["location"]).json()
    assert answer.status_code == 202
    assert (run["state"], run["n_tickers"], run["request"]["action"]) == ("partial", 2, "forecast")
    assert run["counts"] == {"waiting": 0, "running": 0, "succeeded": 1, "failed": 1, "cancelled": 0, "lost": 0}
    (failure,) = run["failures"]
    assert {"ticker": "NOPE", "code": "ticker_not_found", "status": 404}.items() <= failure.items()


def test_runs_are_listed_without_their_failures(client: TestClient) -> None:
    run_id = start(client).json()["id"]

    (run,) = client.get("/runs").json()["runs"]

    assert (run["id"], run["failures"]) == (run_id, [])


def test_each_ticker_has_its_state_and_its_error_as_in_a_problem(client: TestClient) -> None:
    run_id = start(client).json()["id"]

    tickers = client.get(f"/runs/{run_id}/tickers").json()["tickers"]
    failed = client.get(f"/runs/{run_id}/tickers?state=failed").json()["tickers"]

    assert [(one["ticker"], one["state"]) for one in tickers] == [("WALK", "succeeded"), ("NOPE", "failed")]
    assert [one["ticker"] for one in failed] == ["NOPE"]
    assert {"code": "ticker_not_found", "status": 404}.items() <= failed[0]["error"].items()


def test_results_are_a_table_of_each_ticker_and_step(client: TestClient) -> None:
    run_id = start(client).json()["id"]

    answer = client.get(f"/runs/{run_id}/results")

    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["ticker"], row["step"], row["error_code"]) for row in rows] == [
        ("WALK", "1", ""), ("WALK", "2", ""), ("NOPE", "", "ticker_not_found"),
    ]  # fmt: skip
    assert float(rows[0]["lower_95"]) < float(rows[0]["lower_80"]) < float(rows[0]["point"])


@pytest.mark.parametrize("how", ["query", "header"])
def test_results_are_parquet_where_asked_for(client: TestClient, how: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    run_id = start(client).json()["id"]
    header, query = {"headers": {"Accept": PARQUET}}, {"params": {"format": "parquet"}}
    asked: dict[str, Any] = query if how == "query" else header

    answer = client.get(f"/runs/{run_id}/results", **asked)

    found = parquet.read_table(io.BytesIO(answer.content)).to_pydict()
    assert answer.headers["content-type"] == PARQUET
    assert found["ticker"] == ["WALK", "WALK", "NOPE"]
    assert found["step"] == [1, 2, None]
    assert found["lower_80"][0] < found["point"][0] < found["upper_80"][0]
    assert found["session"][0] < found["session"][1]


def test_without_pyarrow_the_stored_parquet_of_an_ended_run_is_served(
    client: TestClient, store: InMemoryArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_has_pyarrow", lambda: False)
    run_id = start(client).json()["id"]

    missing = client.get(f"/runs/{run_id}/results?format=parquet")
    store.put(f"runs/results/{run_id}.parquet", b"PAR1")
    stored = client.get(f"/runs/{run_id}/results?format=parquet")

    assert (missing.status_code, missing.json()["code"]) == (501, "parquet_unavailable")
    assert stored.content == b"PAR1"


def test_a_waiting_run_is_cancelled_and_resumed(app: FastAPI, client: TestClient) -> None:
    app.state.runtime.run_executor = IdleRuns(app)
    answer = start(client)
    url = answer.headers["location"]
    assert (answer.json()["state"], answer.headers["retry-after"]) == ("queued", "2")
    assert client.post(f"{url}/resume").json()["code"] == "run_not_resumable"

    cancelled = client.post(f"{url}/cancel")
    again = client.post(f"{url}/cancel")
    app.state.runtime.run_executor = InlineRuns(app)
    resumed = client.post(f"{url}/resume")

    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert (again.status_code, again.json()["code"]) == (409, "run_already_finished")
    assert (resumed.status_code, resumed.json()["n_resumed"]) == (202, 1)
    assert resumed.json()["counts"]["succeeded"] == 1


def test_a_refused_run_leaves_nothing(app: FastAPI, client: TestClient, store: InMemoryArtifactStore) -> None:
    class Full(InlineRuns):
        @contextmanager
        def slot(self) -> Iterator[Submit]:
            raise RunCapacityExceeded("too many runs are running or waiting; try again later", retry_after_s=30)
            yield

    app.state.runtime.run_executor = Full(app)

    answer = start(client)

    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "too_many_runs", "30")
    assert store.list_keys("runs/") == []


def test_requests_with_one_key_are_one_run(client: TestClient) -> None:
    first, again = (client.post("/runs", json=FORECAST, headers={"Idempotency-Key": "k"}) for _ in range(2))

    assert first.json()["id"] == again.json()["id"]
    assert len(client.get("/runs").json()["runs"]) == 1


@pytest.mark.parametrize("path", ["", "/tickers", "/results"], ids=["run", "tickers", "results"])
def test_an_unknown_run_is_404(client: TestClient, path: str) -> None:
    answer = client.get(f"/runs/{UNKNOWN}{path}")

    assert (answer.status_code, answer.json()["code"]) == (404, "run_not_found")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tickers": []}, "exactly one"),
        ({"tickers": ["A B"]}, "ticker"),
        ({"action": "train", "training": {"end_date": "2199-01-01"}}, "future"),
        ({"format": 1}, "format"),
    ],
    ids=["none", "space", "future", "unknown"],
)
def test_a_malformed_request_is_422(client: TestClient, changes: dict[str, object], fault: str) -> None:
    answer = start(client, **changes)

    assert answer.status_code == 422
    assert fault in answer.text


def test_a_universe_that_does_not_exist_is_404(client: TestClient) -> None:
    answer = client.post("/runs", json={"action": "forecast", "universe": "world"})

    assert (answer.status_code, answer.json()["code"]) == (404, "universe_not_found")
