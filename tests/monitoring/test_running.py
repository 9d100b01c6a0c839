"""A real Prometheus scrapes a real server under traffic of every kind: every query finds data."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import requests

from services.monitoring.forecast_log import record_key
from services.prices.cache import CachedSource
from services.prices.calendars import last_completed_session
from services.prices.series import RawBars
from services.storage.store import LocalArtifactStore
from telemetry.measures import METRICS
from tests.fakes import forecast_record, new_york_sessions, random_walk
from tests.forked_servers import ForkedServers
from tests.monitoring.programs import ROOT, Prometheus, promtool, require, running_prometheus
from tests.monitoring.test_rules import rules
from tests.processes import wait_until
from tools.dashboard import RANGE, queries

pytestmark = pytest.mark.slow

TIMEOUT_S = 60.0
N_SCORED = 55  # enough for the alerts on coverage
DEAD_PROXY = "http://127.0.0.1:9"  # nothing listens on the discard port, so Yahoo is unreachable
TRAINING = {"ticker": "FRESH", "start_date": "2016-01-01", "model": "ewma"}  # spares the worker the import of torch


class WalkFetcher:
    """A random walk up to the newest session, for any ticker."""

    name = "yahoo"

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:
        sessions = new_york_sessions(5000)
        sessions = sessions[sessions <= np.datetime64(last_completed_session("XNYS", now))]
        return RawBars(sessions, random_walk(sessions.size), "USD")


def fill_cache(folder: Path) -> None:
    """Cache FRESH as just downloaded, and OLD as downloaded so long ago that the server tries again and fails."""
    for ticker, age in (("FRESH", timedelta(0)), ("OLD", timedelta(days=3))):
        CachedSource(WalkFetcher(), LocalArtifactStore(folder / "cache"), 0).history(ticker, datetime.now(UTC) - age)


def log_forecasts(folder: Path) -> None:
    """Log a forecast of FRESH on each of its last sessions: no change."""
    kept = LocalArtifactStore(folder / "cache")
    history = CachedSource(WalkFetcher(), kept, 3600).history("FRESH", datetime.now(UTC))
    sessions = [session.item() for session in history.series.sessions[-N_SCORED - 1 :]]
    for origin, session, last in zip(sessions, sessions[1:], history.series.close[-N_SCORED - 1 :], strict=False):
        record = forecast_record("FRESH", origin, [session], float(last), levels=(0.8, 0.95))
        LocalArtifactStore(folder).create(record_key(record), record.model_dump_json().encode())


def traffic(server: str, turn: int) -> None:
    """One request of each kind, including refused ones; each turn has an unknown ticker that is not yet cached."""

    def post(path: str, body: object, *expected: int) -> None:
        answer = requests.post(f"{server}{path}", json=body, timeout=60)
        assert answer.status_code in (expected or (200,)), answer.text

    post("/predict", {"symbol": "FRESH", "prices": [100 + day % 7 for day in range(60)]})
    post("/predict/live", {"symbol": "FRESH"})
    post("/predict/live", {"symbol": "OLD"})
    post("/predict/live", {"symbol": "^GSPC"})
    post("/predict/live", {"symbol": f"UNKNOWN{turn}"}, 503)
    post("/predict/live", {"symbol": "no ticker"}, 422)
    post("/predict/forecast", {"symbol": "FRESH", "days": 5})
    post("/predict/batch", {"symbols": ["FRESH", "OLD"]})
    post("/models/default/predict", {"ticker": "FRESH"})
    post("/models/default/forecast", {"ticker": "FRESH", "horizon": 3})
    post("/models/none-1/forecast", {}, 404)
    post("/monitoring/score", {})
    post("/forecasts/latest", {})
    for path, status in (
        ("/up", 200),
        ("/health", 200),
        ("/monitoring/stats", 200),
        ("/monitoring/drift", 200),
        ("/monitoring/accuracy", 200),
        ("/forecasts/latest", 200),
        ("/models", 200),
        ("/jobs", 200),
        ("/analysis/FRESH", 200),
        ("/wp-login.php", 404),
    ):
        assert requests.get(f"{server}{path}", timeout=60).status_code == status


@pytest.fixture(scope="module")
def server(servers: ForkedServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require("prometheus")
    folder = tmp_path_factory.mktemp("served")
    fill_cache(folder)
    log_forecasts(folder)
    settings = {
        "PRICE_SOURCE": "yahoo,sample",
        "YAHOO_ATTEMPTS": "1",
        "DATA_DIR": str(folder),
        "NIGHTLY_TICKERS": "FRESH,OLD,UNKNOWN0",
        "HTTPS_PROXY": DEAD_PROXY,
        "HTTP_PROXY": DEAD_PROXY,
        "NO_PROXY": "",
        "no_proxy": "",
    }
    with servers.running(settings) as url:
        yield url


@pytest.fixture(scope="module")
def watched(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus after a training and several scrapes with each kind of request between them."""
    with running_prometheus(server.removeprefix("http://"), tmp_path_factory.mktemp("prometheus")) as prometheus:
        wait_until(lambda: bool(prometheus.values("model_loaded")), TIMEOUT_S, "a scrape of the server")
        # rate() needs a scrape before the next failure; after three failures in a row, downloads pause
        assert requests.post(f"{server}/predict/live", json={"symbol": "UNKNOWN"}, timeout=60).status_code == 503
        wait_until(lambda: bool(prometheus.values("price_fetches_total")), TIMEOUT_S, "a scrape of the first download")
        assert requests.post(f"{server}/models/train", json=TRAINING, timeout=240).status_code == 200
        backtest = {"ticker": "FRESH", "horizon": 1, "stride": 20}
        assert requests.post(f"{server}/models/default/backtest", json=backtest, timeout=120).status_code == 200
        for turn in range(4):
            traffic(server, turn)
            time.sleep(1.2)
        yield prometheus


def eventually_finds(prometheus: Prometheus, query: str) -> bool:
    deadline = time.monotonic() + 10
    while not prometheus.values(query):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


OF_SERVERS_WITH_KEYS = {"http_requests_by_key_total", "http_cpu_seconds_by_key_total"}  # tested with the keys


def figures_of_alerts() -> dict[str, str]:
    """The query that each alert compares with a number."""
    return {name: re.split(r" (?:>|<|==) (?=[\d.]+$)", rule["expr"])[0] for name, rule in rules("alert").items()}


def series_of(name: str) -> str:
    return f"{name}_count" if any(m.name == name and m.kind == "histogram" for m in METRICS) else name


def documented() -> list[str]:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram) \|", page, re.MULTILINE)


@pytest.mark.parametrize("query", [*queries(), *figures_of_alerts().values()])
def test_a_query_of_dashboard_or_alert_finds_data(watched: Prometheus, query: str) -> None:
    assert eventually_finds(watched, query.replace(RANGE, "5m"))


@pytest.mark.parametrize("name", sorted({*documented()} - OF_SERVERS_WITH_KEYS))
def test_a_documented_metric_exists(watched: Prometheus, name: str) -> None:
    assert eventually_finds(watched, series_of(name))


@pytest.mark.parametrize(
    "query",
    [
        'http_requests_total{endpoint="/predict/live", method="POST", status="503"}',
        'http_requests_total{endpoint="unmatched", status="404"}',
        'price_fetches_total{source="yahoo", outcome="prices_unreachable"} > 0',
        'price_cache_requests_total{outcome="hit"} > 0',
        'price_cache_requests_total{outcome="stale"} > 0',
        'price_histories_served_total{freshness="stale"} > 0',
        'price_histories_served_total{freshness="fresh"} > 0',
        'store_operations_total{operation="get", outcome="absent"} > 0',
        'training_jobs_total{state="succeeded"} == 1',
        "training_jobs_running == 0",
        f'forecasts_scored_total{{kind="share"}} == {N_SCORED}',
        f'forecast_realised_forecasts{{kind="share"}} == {N_SCORED}',
        'forecast_realised_forecasts{kind="crypto"} == 0',
        'http_requests_total{endpoint="/models/{model_id}/forecast", status="200"} > 0',
        'prediction_duration_seconds_count{type="forecast"} >= 8',
        'forecasts_logged_total{outcome="written"} > 0',
        "sum(forecast_drift) == 1",
        "forecast_publications_total == 4",
        'forecasts_published{outcome="ok"} == 2',
        'forecasts_published{outcome="failed"} == 1',
        "model_loaded == 1",
        "process_memory_usage_bytes > 1e7",
        "process_cpu_usage_percent > 0",
        'up{job="api"} == 1',
    ],
)
def test_traffic_is_measured(watched: Prometheus, query: str) -> None:
    assert eventually_finds(watched, query)


def test_an_unknown_path_makes_no_series(watched: Prometheus) -> None:
    assert watched.values('http_requests_total{endpoint=~".*wp-login.*"}') == []


@pytest.mark.usefixtures("watched")
def test_promtool_finds_nothing_in_the_metrics(server: str) -> None:
    done = promtool("check", "metrics", stdin=requests.get(f"{server}/metrics", timeout=10).content)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.usefixtures("watched")
def test_stale_and_unavailable_prices_degrade_the_health(server: str) -> None:
    health = requests.get(f"{server}/health", timeout=10).json()

    assert health["status"] == "degraded"
    assert [reason["code"] for reason in health["reasons"]] == ["prices_stale", "prices_unavailable"]
    assert "OLD" in health["reasons"][0]["detail"]
    assert "UNKNOWN0" in health["reasons"][1]["detail"]
