"""A replay of 60 real sessions through the API: forecast each evening, scored the next evening."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from config import Settings
from models.base import CLOSE, HIGH, LOW, OPEN, Bars
from schemas.realised import ForecastOutcome
from services.monitoring.drift import error_drift, input_drift, judge
from services.monitoring.realised import scores_since
from services.prices.csv import CsvSource
from services.prices.series import PriceHistory
from tests.fakes import application, use_prices

pytestmark = pytest.mark.slow

TICKER = "PETR4.SA"
FOLDER = Path(__file__).parents[4] / "shared" / "data"
N_SESSIONS = 60
LAST = date(2024, 7, 19)


class KeptSource:
    """The CSV file's history, read once, as it was known at any time."""

    def __init__(self, history: PriceHistory) -> None:
        self._history = history

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        known = now.date() if now.hour >= 23 else now.date() - timedelta(days=1)
        return self._history.between(None, known)


@pytest.fixture(scope="module")
def history() -> PriceHistory:
    if not (FOLDER / f"{TICKER}.csv").exists():
        pytest.skip(f"no reference prices of {TICKER} in ../shared/data")
    whole = CsvSource(FOLDER).history(TICKER, evening(date(2025, 6, 30)))
    return whole.between(None, LAST)


def evening(session: date) -> datetime:
    return datetime.combine(session, time(23), UTC)


@pytest.fixture(scope="module")
def lived(history: PriceHistory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API after the replay; nothing was asked in between but what an operator's schedule asks."""
    sessions = [session.item() for session in history.series.sessions[-N_SESSIONS - 1 :]]
    now = [evening(sessions[0])]
    app: FastAPI = application(
        Settings.model_validate({"data_dir": tmp_path_factory.mktemp("lived")}), clock=lambda: now[0]
    )
    use_prices(app, KeptSource(history))
    with TestClient(app) as client:
        for session in sessions:
            now[0] = evening(session)
            scored = client.post("/monitoring/score").json()
            assert scored["unscored"] == []
            assert client.post("/predict/live", json={"symbol": TICKER}).status_code == 200
        yield client


def test_realised_accuracy_is_that_of_a_backtest_from_the_same_origins(
    lived: TestClient, history: PriceHistory
) -> None:
    first = history.series.sessions[-N_SESSIONS - 1].item()
    request = {"ticker": TICKER, "start": first.isoformat(), "horizon": 1}
    expected = lived.post("/models/default/backtest", json=request).json()["model_report"]["steps"][0]

    (found,) = lived.get("/monitoring/accuracy", params={"ticker": TICKER, "days": 3650}).json()["accuracy"]

    realised = found["report"]
    assert realised["n_origins"] == expected["n_origins"] == N_SESSIONS
    for part in ("model", "persistence", "skill", "p_value"):
        same = {name: expected[part][name] for name in realised[part]}
        assert realised[part] == pytest.approx(same, rel=1e-6, abs=1e-12)
    for one, other in zip(realised["coverage"], expected["coverage"], strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_scoring_again_changes_nothing(lived: TestClient) -> None:
    before = lived.get("/monitoring/accuracy", params={"days": 3650}).json()

    again = lived.post("/monitoring/score").json()

    assert (again["n_sessions"], again["n_pairs"]) == (0, 0)
    assert lived.get("/monitoring/accuracy", params={"days": 3650}).json() == before


def test_a_window_leaves_out_what_lies_before_it(lived: TestClient) -> None:
    (short,) = lived.get("/monitoring/accuracy", params={"days": 30}).json()["accuracy"]

    assert short["report"]["n_origins"] < 25
    assert short["first_session"] >= (LAST - timedelta(days=30)).isoformat()


def test_the_errors_of_an_undisturbed_year_are_no_drift(lived: TestClient) -> None:
    (report,) = lived.get("/monitoring/drift", params={"ticker": TICKER}).json()["reports"]

    assert report["errors"]["n_origins"] == N_SESSIONS
    assert report["status"] != "drifted", report


def test_undisturbed_windows_are_fine_nineteen_times_of_twenty(lived: TestClient, history: PriceHistory) -> None:
    sessions = [session.item() for session in history.series.sessions[-N_SESSIONS:]]
    scored = {scores.session: scores.pairs for scores in scores_since(lived.app.state.runtime.store, sessions[0])}  # type: ignore[attr-defined]
    pairs = [pair for session in sessions for pair in scored[session]]

    statuses = [
        status_at(history.series.bars, len(history.series) - N_SESSIONS + known, pairs[:known])
        for known in range(1, N_SESSIONS + 1)
    ]

    assert np.mean([status == "ok" for status in statuses]) >= 0.95


def test_doubled_volatility_is_noticed_within_sixty_sessions(history: PriceHistory) -> None:
    bars = history.series.bars
    breaks = range(len(bars) - 150, len(bars) - 60, 10)

    noticed = [
        any(status_at(disturbed, end) != "ok" for end in range(start + 1, start + 61))
        for start in breaks
        for disturbed in [doubled(bars, start)]
    ]

    assert all(noticed), [start for start, found in zip(breaks, noticed, strict=True) if not found]


def status_at(bars: Bars, end: int, pairs: Sequence[ForecastOutcome] = ()) -> str:
    """The status with the sessions before ``end`` known, and these outcomes of earlier forecasts."""
    return judge(input_drift(TICKER, bars[:end]), error_drift(pairs))[0]


def doubled(bars: Bars, start: int) -> Bars:
    """The same history with every move from ``start`` on twice as large."""
    stretched = bars.copy()
    before = np.log(bars[:-1, CLOSE])
    moves = np.log(bars[1:, CLOSE]) - before
    factor = np.where(np.arange(1, len(bars)) >= start, 2.0, 1.0)
    closes = np.log(bars[0, CLOSE]) + np.concatenate([[0.0], np.cumsum(factor * moves)])
    stretched[:, CLOSE] = np.exp(closes)
    for column in (OPEN, HIGH, LOW):
        stretched[1:, column] = np.exp(closes[:-1] + factor * (np.log(bars[1:, column]) - before))
    return stretched
