"""Forecasts whose prices and model are in memory are answered by the event loop, without any input or output."""

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from models.base import Bars, Origins, QuantileForecast
from services.forecasting.forecasting import QUICK_S
from services.monitoring.forecast_log import FORECASTS
from services.prices.cache import CachedSource
from services.prices.series import PriceHistory, PriceSource, RawBars
from services.storage import ttl_cache
from services.storage.store import LocalArtifactStore
from tests.fakes import InMemoryArtifactStore, application, new_york_sessions, random_walk

N_SESSIONS = 900
SESSIONS = new_york_sessions(N_SESSIONS)
NOW = datetime.combine(SESSIONS[-1].item() + timedelta(days=1), datetime.min.time(), UTC).replace(hour=4)
CLOSES = random_walk(60)[:, 3].tolist()
LIVE = {"symbol": "WALK"}

_events: list[str] | None = None


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _events is not None and event.startswith(("open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.")):
        _events.append(f"{event} {arguments[:1]}")


sys.addaudithook(_note)


@contextmanager
def recorded_events() -> Iterator[list[str]]:
    """What Python reports meanwhile of files, sockets and processes."""
    global _events  # noqa: PLW0603 - an audit hook stays for the life of the process
    found: list[str] = []
    _events = found
    try:
        yield found
    finally:
        _events = None


class CountingFetcher:
    name = "walk"

    def __init__(self) -> None:
        self.n_fetched = 0

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        self.n_fetched += 1
        return RawBars(SESSIONS, random_walk(N_SESSIONS), "USD")


class CountingStore(InMemoryArtifactStore):
    """Counts every call."""

    n_calls = 0

    def __getattribute__(self, name: str) -> object:
        if name in ("get", "put", "create", "read_versioned", "replace", "exists", "list_keys", "delete"):
            CountingStore.n_calls += 1
        return super().__getattribute__(name)


class ObservedSource:
    """Remembers which thread has asked for prices, and how often."""

    def __init__(self, source: PriceSource) -> None:
        self._source = source
        self.threads: list[int] = []

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        self.threads.append(threading.get_ident())
        return self._source.history(ticker, now, recent)


@pytest.fixture
def fetcher() -> CountingFetcher:
    return CountingFetcher()


@pytest.fixture
def prices(tmp_path: Path, fetcher: CountingFetcher) -> ObservedSource:
    return ObservedSource(CachedSource(fetcher, LocalArtifactStore(tmp_path), ttl_s=1e9))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> CountingStore:
    monkeypatch.setattr(ttl_cache, "TTL_S", 3600.0)  # a slow machine must not look again within the test
    return CountingStore()


@pytest.fixture
def app(store: CountingStore, prices: ObservedSource, tmp_path: Path) -> FastAPI:
    return application(Settings(_env_file=None, data_dir=tmp_path), clock=lambda: NOW, store=store, prices=prices)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def answered(client: TestClient, path: str, body: Mapping[str, object]) -> dict[str, object]:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    found: dict[str, object] = response.json()
    del found["inference_time_ms"], found["timestamp"]
    return found


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict/live", LIVE),
        ("/predict/forecast", {**LIVE, "days": 30}),
        ("/models/default/predict", {"ticker": "WALK"}),
        ("/models/default/forecast", {"ticker": "WALK", "horizon": 10}),
    ],
)
def test_a_warm_forecast_does_no_input_or_output(
    client: TestClient, app: FastAPI, store: CountingStore, fetcher: CountingFetcher, path: str, body: dict[str, object]
) -> None:
    def ask() -> object:
        response = client.post(path, json=body)
        assert response.status_code == 200, response.text
        return [response.json()[name] for name in ("intervals", "forecast") if name in response.json()]

    first = ask()
    assert app.state.runtime.writer.flush() == 0
    ask()
    n_calls, n_fetched = CountingStore.n_calls, fetcher.n_fetched
    assert n_calls
    assert n_fetched

    with recorded_events() as events:
        again = ask()

    assert again == first
    assert (CountingStore.n_calls, fetcher.n_fetched) == (n_calls, n_fetched)
    assert events == []


def test_the_forecast_is_logged_behind_its_answer(client: TestClient, app: FastAPI, store: CountingStore) -> None:
    answered(client, "/predict/live", LIVE)

    assert app.state.runtime.writer.flush() == 0
    assert len(store.list_keys(FORECASTS)) == 1


def test_the_first_forecast_is_made_in_a_thread_and_the_next_in_the_event_loop(
    client: TestClient, prices: ObservedSource
) -> None:
    first = answered(client, "/predict/live", LIVE)
    in_thread = prices.threads[-1]
    prices.threads.clear()

    again = answered(client, "/predict/live", LIVE)

    loop = client.portal.call(threading.get_ident) if client.portal else 0
    assert again == first
    assert {*prices.threads} == {loop}
    assert in_thread != loop


def test_what_is_not_in_memory_any_more_is_read_in_a_thread(
    client: TestClient, app: FastAPI, prices: ObservedSource
) -> None:
    first = answered(client, "/predict/live", LIVE)
    app.state.runtime.registry.look_again("default")
    app.state.runtime.registry.look_again("ticker/WALK")
    prices.threads.clear()

    again = answered(client, "/predict/live", LIVE)

    assert again == first
    assert client.portal is not None
    assert client.portal.call(threading.get_ident) not in prices.threads


def test_an_error_is_the_same_in_the_event_loop(client: TestClient) -> None:
    answers = [client.post("/predict", json={"prices": [1.0] * 60}) for _ in range(3)]

    assert [answer.json()["code"] for answer in answers] == ["constant_series"] * 3


@pytest.fixture
def runs(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which the bundled network runs."""
    runtime = app.state.runtime
    forecaster = runtime.registry.serve("default").forecaster.static.next_session
    threads: list[int] = []
    run = forecaster.inner.predict_quantiles

    def observed(bars: Bars, origins: Origins) -> QuantileForecast:
        threads.append(threading.get_ident())
        result: QuantileForecast = run(bars, origins)
        return result

    monkeypatch.setattr(forecaster.inner, "predict_quantiles", observed)
    return threads


def other_closes(number: int) -> dict[str, object]:
    return {"prices": (np.array(CLOSES) * (1 + number / 1000)).tolist()}


def test_closes_go_to_the_event_loop_once_the_model_has_shown_that_it_is_quick(
    client: TestClient, runs: list[int]
) -> None:
    assert client.portal is not None
    loop = client.portal.call(threading.get_ident)

    for number in range(200):  # on a busy machine a run may take longer than usual
        answered(client, "/predict", other_closes(number))
        if runs[-1] == loop:
            break

    assert runs[0] != loop
    assert runs[-1] == loop


def test_a_slow_model_never_runs_in_the_event_loop(
    client: TestClient, app: FastAPI, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    forecaster = app.state.runtime.registry.serve("default").forecaster.static.next_session
    run = forecaster.inner.predict_quantiles

    def slow(bars: Bars, origins: Origins) -> QuantileForecast:
        until = time.thread_time() + 2 * QUICK_S
        while time.thread_time() < until:
            pass
        result: QuantileForecast = run(bars, origins)
        return result

    monkeypatch.setattr(forecaster.inner, "predict_quantiles", slow)

    for number in range(5):
        answered(client, "/predict", other_closes(number))

    assert client.portal is not None
    assert client.portal.call(threading.get_ident) not in runs
