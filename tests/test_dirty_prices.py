"""Dirty prices through the whole application: the clean answer, a warning that names the dirt, or a named 4xx."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.dirt import DIRT, NAMED_BY, Case, clean_case
from benchmarks.dirty_prices import NOW, TICKER, RowsSource, Tally, judge, one_series, soiled
from config import Settings
from tests.fakes import InlineExecutor, application, use_prices

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source() -> RowsSource:
    return RowsSource()


@pytest.fixture(scope="module")
def client(source: RowsSource, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder: Path = tmp_path_factory.mktemp("dirt")
    app = application(Settings(_env_file=None, data_dir=folder, price_source="sample"), clock=lambda: NOW)
    use_prices(app, source)
    app.state.runtime.executor = app.state.runtime.backtest_executor = InlineExecutor(app)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def clean_answers(source: RowsSource, client: TestClient) -> list[dict[str, Any]]:
    """The forecasts of the clean case of each seed."""
    return [forecast(source, client, clean_case(np.random.default_rng(seed), 250))[1] for seed in range(6)]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(1, 10**6))
def test_any_dirt_changes_nothing_or_is_named(seed: int, source: RowsSource, client: TestClient) -> None:
    tally = Tally()

    one_series(seed, source, client, tally)

    assert tally.bad == []


@pytest.mark.parametrize("kind", sorted(DIRT))
def test_each_kind_of_dirt_alone(
    kind: str, clean_answers: list[dict[str, Any]], source: RowsSource, client: TestClient
) -> None:
    for seed, clean in enumerate(clean_answers):
        rng = np.random.default_rng(seed)
        status, answer = forecast(source, client, soiled(clean_case(rng, 250), [kind], rng))

        assert judge([kind], status, clean, answer) not in ("5xx", "different without a warning")


def test_dirt_in_the_window_is_named_even_where_it_changes_little(source: RowsSource, client: TestClient) -> None:
    for kind, words in NAMED_BY.items():
        if kind in ("negative_past", "bad_volumes"):
            continue  # the former is long past, the latter often no fault
        warned = 0
        for seed in range(8):
            rng = np.random.default_rng(seed)
            status, answer = forecast(source, client, soiled(clean_case(rng, 100), [kind], rng))
            warned += status >= 400 or any(re.search(words, warning) for warning in answer["warnings"])
        assert warned >= 4, kind


def forecast(source: RowsSource, client: TestClient, case: Case) -> tuple[int, dict[str, Any]]:
    source.rows = case.rows
    response = client.post("/predict/live", json={"symbol": TICKER})
    return response.status_code, response.json()
