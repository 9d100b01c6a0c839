"""Function-URL events through Mangum and the application, in this process."""

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

import worker
from aws_lambda import NotAnHttpEvent, lambda_handler
from config import Settings
from errors import InvalidRequest
from models.base import CLOSE, HIGH, LOW
from schemas.common import DEFAULT_LEVELS
from schemas.realised import ForecastOutcome, SessionScores
from services.monitoring.scoring import scores_key
from services.prices.sample import SampleSource
from services.storage.store import ArtifactStore
from services.training.train import TrainedModel
from tests.aws.events import Answer, Event, function_url_event, read_answer
from tests.fakes import (
    FailingPriceSource,
    FakePriceSource,
    ListingExecutor,
    application,
    forecasting,
    use_prices,
    walk_history,
)

NOW = datetime(2019, 1, 2, 14, tzinfo=UTC)
MAX_BODY_BYTES = 2048
KEY = "a-key-of-twenty-characters"
PROBLEM = "application/problem+json"

Handler = Callable[[Event], Answer]
Adapter = Callable[[Any, Any], Any]


@pytest.fixture
def api(tmp_path: Path) -> FastAPI:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        price_source="sample",
        s3_bucket_name=None,
        aws_lambda_function_name="forecast",
        open=True,
        max_body_bytes=MAX_BODY_BYTES,
    )
    return application(settings, clock=lambda: NOW)


@pytest.fixture
def adapter(api: FastAPI) -> Adapter:
    return lambda_handler(api)


@pytest.fixture
def default_garbage_collection() -> Iterator[None]:
    """As in a new process."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.fixture
def handle(adapter: Adapter) -> Handler:
    return lambda event: read_answer(adapter(event, None))


def test_up_is_answered(handle: Handler) -> None:
    answer = handle(function_url_event("GET", "/up"))

    assert (answer.status, answer.json(), answer.was_base64) == (200, {"status": "ok"}, False)


@pytest.mark.parametrize(("key", "open_", "status"), [(None, False, 503), (None, True, 200), (KEY, False, 401)])
def test_a_function_without_a_key_answers_only_where_that_is_said(
    tmp_path: Path, key: str | None, open_: bool, status: int
) -> None:
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        price_source="sample",
        aws_lambda_function_name="forecast",
        api_key=None if key is None else SecretStr(key),
        open=open_,
    )
    adapter: Adapter = lambda_handler(application(settings, clock=lambda: NOW))

    answer = read_answer(adapter(function_url_event("GET", "/models"), None))

    assert answer.status == status
    if status == 503:
        assert answer.json()["code"] == "access_not_configured"
    assert read_answer(adapter(function_url_event("GET", "/up"), None)).status == 200


def test_a_base64_body_is_read_like_a_plain_one(handle: Handler) -> None:
    body = json.dumps({"ticker": "^GSPC", "days": 3})

    encoded = handle(function_url_event("POST", "/models/fetch-data", body.encode()))
    plain = handle(function_url_event("POST", "/models/fetch-data", body))

    assert [row["Date"] for row in encoded.json()["data"]] == ["2018-12-27", "2018-12-28", "2018-12-31"]
    assert encoded.json() == plain.json()


def test_a_query_string_is_read(handle: Handler, api: FastAPI, trained: TrainedModel) -> None:
    api.state.runtime.registry.publish(trained.card, trained.files)

    of_walk = handle(function_url_event("GET", "/models", query="ticker=WALK&limit=1"))
    of_gspc = handle(function_url_event("GET", "/models", query="ticker=%5EGSPC&limit=1"))

    assert [model["id"] for model in of_walk.json()["models"]] == [trained.card.model_id]
    assert [model["bundled"] for model in of_gspc.json()["models"]] == [True]


def test_an_absent_body_takes_the_defaults(handle: Handler, api: FastAPI, trained: TrainedModel) -> None:
    api.state.runtime.registry.publish(trained.card, trained.files)
    use_prices(api, FakePriceSource(walk_history(trained.card.tickers[0])))

    answer = handle(function_url_event("POST", f"/models/{trained.card.model_id}/predict"))

    assert answer.status == 200
    assert [interval["level"] for interval in answer.json()["intervals"]] == [0.8, 0.95]


def test_a_deletion_is_answered_without_a_body(handle: Handler, api: FastAPI, trained: TrainedModel) -> None:
    api.state.runtime.registry.publish(trained.card, trained.files)

    answer = handle(function_url_event("DELETE", f"/models/{trained.card.model_id}"))

    assert (answer.status, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("event", "status", "code"),
    [
        (function_url_event("GET", "/nowhere"), 404, "not_found"),
        (function_url_event("GET", "/models/no-such-model"), 404, "model_not_found"),
        (function_url_event("GET", "/models/..%2F..%2Fetc%2Fpasswd"), 422, "malformed_request"),
        (function_url_event("GET", "/models/%2e%2e"), 422, "malformed_request"),
        (function_url_event("POST", "/up", {}), 405, "method_not_allowed"),
        (function_url_event("GET", "/models", query="limit=many"), 422, "malformed_request"),
        (
            function_url_event("POST", "/models/fetch-data", {"ticker": "no ticker!", "days": 3}),
            422,
            "malformed_request",
        ),
        (function_url_event("POST", "/models/fetch-data", "{not json"), 422, "malformed_request"),
        (function_url_event("POST", "/models/fetch-data"), 422, "malformed_request"),
        (function_url_event("POST", "/models/fetch-data", {"ticker": "NOPE", "days": 3}), 404, "ticker_not_found"),
    ],
)
def test_a_refusal_is_problem_json(handle: Handler, event: Event, status: int, code: str) -> None:
    answer = handle(event)

    problem = answer.json()
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code)
    assert (answer.headers["content-type"], answer.was_base64) == (PROBLEM, False)


@pytest.mark.parametrize("body", [b"\xff\xfe\x00", b'{"ticker": "\xff"}', bytes(4), b"\x89PNG\r\n\x1a\n", b"[" * 2000])
def test_a_binary_body_is_the_callers_mistake(handle: Handler, body: bytes) -> None:
    answer = handle(function_url_event("POST", "/models/fetch-data", body))

    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == PROBLEM


@pytest.mark.parametrize("headers", [{}, {"content-length": "2"}], ids=["honest", "understated"])
def test_a_body_beyond_the_limit_is_refused(handle: Handler, headers: dict[str, str]) -> None:
    oversized = json.dumps({"ticker": "^GSPC", "days": 3}) + " " * MAX_BODY_BYTES

    answer = handle(function_url_event("POST", "/models/fetch-data", oversized, headers=headers))

    assert (answer.status, answer.headers["content-type"]) == (413, PROBLEM)


def test_the_limit_holds_for_the_decoded_body(handle: Handler) -> None:
    body = json.dumps({"ticker": "^GSPC", "days": 3}).encode()
    padded = body + b" " * (MAX_BODY_BYTES - len(body))  # base64 makes it a third longer

    answer = handle(function_url_event("POST", "/models/fetch-data", padded))

    assert answer.status == 200


def test_no_event_pays_for_start_up_and_shutdown(api: FastAPI, handle: Handler) -> None:
    starts = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starts.append(app)
        yield

    api.router.lifespan_context = lifespan

    handle(function_url_event("GET", "/up"))

    assert starts == []


def test_a_callers_request_id_is_in_the_problem(handle: Handler) -> None:
    answer = handle(function_url_event("GET", "/nowhere", headers={"x-request-id": "order-66"}))

    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "order-66"


def test_an_unexpected_failure_is_opaque_and_the_next_event_is_answered(handle: Handler, api: FastAPI) -> None:
    use_prices(api, FailingPriceSource(RuntimeError("the secret is hunter2")))

    failed = handle(function_url_event("POST", "/models/fetch-data", {"ticker": "^GSPC", "days": 3}))
    answer = handle(function_url_event("GET", "/up"))

    assert (failed.status, failed.json()["code"], answer.status) == (500, "internal", 200)
    assert "hunter2" not in failed.content.decode()


@pytest.mark.parametrize("event", [{}, {"source": "aws.events", "detail-type": "Scheduled Event"}, {"Records": []}])
def test_an_event_that_is_no_request_fails_the_invocation(adapter: Adapter, event: Event) -> None:
    # a problem answer would read as success to whatever sent the event, and never reach its dead-letter queue
    with pytest.raises(NotAnHttpEvent, match="expected a function-URL event"):
        adapter(event, None)


def test_an_answer_that_lambda_cannot_carry_is_refused_in_words(handle: Handler, api: FastAPI) -> None:
    @api.get("/large")
    def large() -> list[str]:
        return ['"' * 100] * 20_000  # 4 MB of JSON, 8 MB inside another JSON document

    answer = handle(function_url_event("GET", "/large"))

    assert (answer.status, answer.json()["code"]) == (400, "answer_too_large")
    assert answer.headers["x-request-id"] == answer.json()["request_id"] != ""
    assert answer.headers["content-language"] == "en"

    answer = handle(function_url_event("GET", "/large", headers={"accept-language": "pt-BR"}))

    assert (answer.json()["code"], answer.json()["title"]) == ("answer_too_large", "Resposta grande demais")
    assert answer.headers["content-language"] == "pt-BR"


def test_an_answer_that_lambda_just_carries_is_answered(handle: Handler, api: FastAPI) -> None:
    @api.get("/large")
    def large() -> str:
        return "x" * 6_000_000

    assert handle(function_url_event("GET", "/large")).status == 200


def test_each_event_writes_its_measurements_and_the_first_is_a_cold_start(
    handle: Handler, capsys: pytest.CaptureFixture[str]
) -> None:
    handle(function_url_event("GET", "/up"))
    handle(function_url_event("GET", "/no-such-path"))

    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["Requests"], first["ColdStarts"]) == ([1.0], [1.0])
    assert second["Requests"] == [1.0]
    assert "ColdStarts" not in second


def test_a_scheduled_event_scores_what_has_closed(
    adapter: Adapter, handle: Handler, api: FastAPI, trained: TrainedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    thursday = datetime(2018, 12, 27, 23, tzinfo=UTC)
    api.state.runtime.registry.publish(trained.card, trained.files)
    runtime = api.state.runtime
    path = forecasting(runtime.registry, SampleSource())
    runtime.forecast_log.record(
        "live", 0.0, path.forecast_ticker(trained.card.model_id, "^GSPC", 1, DEFAULT_LEVELS, thursday)
    )
    runtime.writer.flush()

    capsys.readouterr()
    assert adapter({"task": "score"}, None) is None

    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (metrics["ScoringRuns"], metrics["SessionsUnscored"]) == ([1.0], [0.0])
    assert "TickersDrifted" in metrics
    scored = handle(function_url_event("GET", "/monitoring/accuracy", query="days=3650")).json()
    assert [(found["ticker"], found["report"]["n_origins"]) for found in scored["accuracy"]] == [("^GSPC", 1)]

    api.state.runtime.registry.move_alias("default", trained.card.model_id, thursday)
    of_default = handle(function_url_event("GET", "/monitoring/accuracy", query="days=3650&model_id=default")).json()
    assert of_default == scored


class TwoTickers(FakePriceSource):
    """AAA and BBB have become wild in the last week, CCC has not."""

    def __init__(self) -> None:
        histories = []
        for seed, ticker in enumerate(("AAA", "BBB", "CCC")):
            history = walk_history(ticker, n_sessions=1500, seed=seed)
            bars = history.series.bars.copy()
            if ticker != "CCC":
                bars[-5:, HIGH], bars[-5:, LOW] = 1.2 * bars[-5:, CLOSE], bars[-5:, CLOSE] / 1.2
            histories.append(replace(history, series=replace(history.series, bars=bars)))
        super().__init__(*histories)


@pytest.mark.parametrize(("limit", "trained_on"), [(0, []), (1, ["BBB"]), (5, ["AAA", "BBB"])])
def test_a_scheduled_event_retrains_what_drifted_and_no_more_than_its_limit(
    adapter: Adapter, api: FastAPI, trained: TrainedModel, limit: int, trained_on: list[str]
) -> None:
    runtime = api.state.runtime
    runtime.registry.publish(trained.card, trained.files)
    runtime.registry.move_alias("default", trained.card.model_id, NOW)
    runtime.executor = ListingExecutor("trainer")
    use_prices(api, TwoTickers())
    for ticker, misses in (("AAA", 0), ("BBB", 40), ("CCC", 0)):
        for day in range(max(misses, 1)):
            put_scores(runtime.store, ticker, NOW.date() - timedelta(days=day + 1), trained.card.model_id, misses)

    for _ in range(2):  # an event that arrives twice trains once
        assert adapter({"task": "retrain", "limit": limit}, None) is None

    jobs = runtime.jobs.page(100, None, NOW).jobs
    assert sorted(job.request.ticker for job in jobs) == trained_on
    assert {job.request.promote_to for job in jobs} == {f"ticker/{ticker}" for ticker in trained_on}
    assert sorted(runtime.executor.submitted) == sorted(job.id for job in jobs)


@pytest.mark.parametrize("limit", [None, -1, "5", 1.5, True])
def test_a_retraining_without_a_limit_fails_the_invocation(adapter: Adapter, limit: object) -> None:
    with pytest.raises(InvalidRequest, match="limit"):
        adapter({"task": "retrain", "limit": limit}, None)


def put_scores(store: ArtifactStore, ticker: str, session: date, model_id: str, misses: int) -> None:
    """The scores of a forecast whose close was far above its range, or in the middle of it."""
    pair = ForecastOutcome(
        model_id=model_id,
        model="return_lstm",
        origin=session - timedelta(days=1),
        step=1,
        made_at=NOW,
        last=100,
        actual=120 if misses else 100,
        median=101,
        levels=(0.8,),
        lower=(95,),
        upper=(105,),
        crps=1,
        persistence_crps=1,
        pit=0.999 if misses else 0.5,
    )
    scores = SessionScores(ticker=ticker, exchange="XNYS", session=session, scored_at=NOW, pairs=(pair,))
    store.create(scores_key(ticker, session), scores.model_dump_json().encode())


@pytest.mark.usefixtures("default_garbage_collection")
def test_a_function_that_trains_collects_garbage_as_seldom_as_other_workers(adapter: Adapter) -> None:
    adapter({"task": "webhooks"}, None)

    assert gc.get_threshold() == worker.GC_THRESHOLD
