"""Histories as exchanges and Yahoo really have them, through the whole application and the real Yahoo client.

Yahoo is a server on loopback. Each test is one kind of fault, with the right answer to it.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import ArrayLike

from config import Settings
from models.base import Bars
from services.prices.cache import CachedSource
from services.prices.calendars import last_completed_session, next_sessions, sessions_between
from services.prices.exchanges import exchange_of
from services.prices.series import COLUMNS
from services.prices.yahoo import YahooSource
from services.storage.store import LocalArtifactStore
from tests.fakes import InlineExecutor, application, random_walk, use_prices
from tests.yahoo_server import Quotes, YahooServer

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[2] / "shared" / "data"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)  # a Saturday

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real prices in shared/data")


class World:
    """An application on the Yahoo of loopback."""

    def __init__(self, yahoo: YahooServer, folder: Path) -> None:
        self._yahoo = yahoo
        app = application(Settings(_env_file=None, data_dir=folder, price_source="yahoo"), clock=lambda: NOW)
        fetcher = YahooSource(folder / "yf", timeout_s=5, attempts=1, session=yahoo.session())
        prices = CachedSource(fetcher, LocalArtifactStore(folder / "cache"), ttl_s=900)
        use_prices(app, prices)
        app.state.runtime.executor = app.state.runtime.backtest_executor = InlineExecutor(app)
        self._client = TestClient(app, raise_server_exceptions=False)

    def trades(self, ticker: str, sessions: Sequence[date], bars: Bars, zone: str = "America/New_York") -> None:
        """Let Yahoo have these bars of a ticker; NaN is null."""
        cells = [[None if np.isnan(cell) else float(cell) for cell in column] for column in bars.T]
        opened, high, low, close, volume = cells
        self._yahoo.quotes[ticker] = Quotes(
            list(sessions), close, open=opened, high=high, low=low, volume=volume, zone=zone
        )

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        response = self._client.post(path, json=body)
        return response.status_code, response.json()

    def live(self, ticker: str) -> dict[str, Any]:
        status, answer = self.post("/predict/live", {"symbol": ticker})
        assert status == 200, answer
        return answer


@pytest.fixture
def world(yahoo: YahooServer, tmp_path: Path) -> World:
    return World(yahoo, tmp_path)


def sessions_up_to(ticker: str, last: date, count: int) -> list[date]:
    """The last ``count`` sessions of the ticker's exchange up to ``last``."""
    found = sessions_between(exchange_of(ticker), date(1990, 1, 1), last)[-count:]
    return [session.item() for session in found]


def long_history(last: date, first: date = date(1927, 12, 30)) -> list[date]:
    """Weekdays before 1990, New York's sessions after."""
    early = np.arange(np.datetime64(first), np.datetime64("1990-01-01"))
    weekdays = early[np.is_busday(early)]
    return [day.item() for day in [*weekdays, *sessions_between("XNYS", date(1990, 1, 1), last)]]


def bounds_pct(answer: dict[str, Any]) -> tuple[float, float]:
    """The 95 % interval in % of the last close."""
    widest, last = answer["intervals"][-1], answer["last_known_price"]
    return 100 * (widest["lower"] / last - 1), 100 * (widest["upper"] / last - 1)


def flat(closes: ArrayLike, volume: float = 1e5) -> Bars:
    prices = np.asarray(closes, dtype=np.float64)
    return np.column_stack([prices, prices, prices, prices, np.full(prices.size, volume)])


def test_twenty_years_of_zero_opens_are_no_reason_to_refuse(world: World) -> None:
    sessions = long_history(date(2026, 11, 27))
    bars = random_walk(len(sessions), daily_volatility=0.005)
    days = np.array(sessions, dtype="datetime64[D]")
    bars[(days >= np.datetime64("1962-01-02")) & (days <= np.datetime64("1982-04-19")), 0] = 0.0
    world.trades("^GSPC", sessions, bars)

    answer = world.live("^GSPC")
    status, whole = world.post("/models/fetch-data", {"ticker": "^GSPC", "days": 20_000})
    backtested = world.post("/models/default/backtest", {"ticker": "^GSPC", "start": "1980-01-02", "end": "1981-01-02"})

    assert answer["last_data_date"] == "2026-11-27"
    assert not answer["stale"]
    assert status == 200
    assert whole["repaired"] == {"open": int((bars[:, 0] == 0).sum())}
    assert whole["dropped"] == {}
    assert backtested[0] == 200
    assert any("unusable values" in warning for warning in backtested[1]["warnings"])


def test_a_share_with_every_eighth_row_null_is_forecast_and_trained_on(world: World) -> None:
    sessions = sessions_up_to("THIN.SA", date(2026, 11, 27), 1200)
    bars = random_walk(1200)
    bars[::8] = np.nan
    world.trades("THIN.SA", sessions, bars, zone="America/Sao_Paulo")

    answer = world.live("THIN.SA")
    status, trained = world.post("/models/train", {"ticker": "THIN.SA", "model": "volatility_regression"})

    assert answer["dropped"]["missing"] > 80
    assert any("rows without a close" in warning for warning in answer["warnings"])
    assert status == 200, trained
    assert trained["result"]["dropped"] == {"THIN.SA": {"missing": 150}}
    assert any("rows without a close" in warning for warning in trained["result"]["warnings"])


@pytest.mark.parametrize("n_locked", [0, 5, 20])
def test_limit_locked_days_do_not_shrink_the_interval(world: World, n_locked: int) -> None:
    sessions = sessions_up_to("LOCK.NS", date(2026, 11, 27), 600 + n_locked)
    calm = random_walk(600, daily_volatility=0.02)
    locked = flat(calm[-1, 3] * 1.05 ** np.arange(1, n_locked + 1))
    world.trades("LOCK.NS", sessions, np.concatenate([calm, locked]), zone="Asia/Kolkata")

    answer = world.live("LOCK.NS")

    lower, upper = bounds_pct(answer)
    assert lower <= -4
    assert upper >= 4
    assert any("low and close are equal" in warning for warning in answer["warnings"]) == (n_locked > 0)


def test_a_halted_share_gets_a_wider_interval_and_says_so(world: World) -> None:
    sessions = sessions_up_to("HALT.SA", date(2026, 11, 27), 610)
    before = random_walk(600, daily_volatility=0.02)
    zone = "America/Sao_Paulo"
    world.trades("OPEN.SA", sessions[:600], before, zone)
    world.trades("HALT.SA", sessions, np.concatenate([before, flat([before[-1, 3]] * 10, volume=0)]), zone)

    open_, halted = world.live("OPEN.SA"), world.live("HALT.SA")

    assert bounds_pct(halted)[0] < bounds_pct(open_)[0]
    assert bounds_pct(halted)[1] > bounds_pct(open_)[1]
    assert any("no trades in the last 10 sessions" in warning for warning in halted["warnings"])


@pytest.mark.parametrize("volume", [0.0, 1e5])
def test_a_share_that_seldom_moves_can_be_backtested(world: World, volume: float) -> None:
    sessions = sessions_up_to("PEG.SA", date(2026, 11, 27), 900)
    world.trades("PEG.SA", sessions, flat(100.0 + np.arange(900) // 100, volume), zone="America/Sao_Paulo")

    status, answer = world.post("/models/default/backtest", {"ticker": "PEG.SA", "start": str(sessions[200])})

    assert status == 200, answer
    assert any("volatility_regression is left out" in warning for warning in answer["warnings"])


@pytest.mark.parametrize("price", [1e300, 1e-300, 5e-324])
def test_prices_beyond_any_market_are_a_named_error(world: World, price: float) -> None:
    sessions = sessions_up_to("EXTREME", date(2026, 11, 27), 700)
    world.trades("EXTREME", sessions, np.clip(random_walk(700)[:, [0, 1, 2, 3, 4]] * 0 + price, 5e-324, 1e300))

    found = [
        world.post("/predict/live", {"symbol": "EXTREME"}),
        world.post("/models/default/backtest", {"ticker": "EXTREME"}),
        world.post("/models/train", {"ticker": "EXTREME"}),
        world.post("/predict", {"prices": [price] * 59 + [price * 2]}),
    ]

    assert [status for status, _ in found] == [409, 409, 409, 422]
    assert found[0][1]["code"] == "prices_invalid"


@needs_shared
def test_the_ghosts_of_petr4_are_dropped(tmp_path: Path) -> None:
    client = _csv_client(SHARED, datetime(2024, 12, 31, 23, tzinfo=UTC), tmp_path)

    live = client.post("/predict/live", json={"symbol": "PETR4.SA"}).json()
    then = client.post("/models/default/predict", json={"ticker": "PETR4.SA", "as_of": "2017-11-21"}).json()

    assert live["dropped"] == {"ghost": 9}
    widest = then["intervals"][-1]
    lower, upper = (100 * (widest[bound] / then["last_close"] - 1) for bound in ("lower", "upper"))
    assert -6.3 < lower < -4.4  # with the ghosts, read as calm, -1.85
    assert 4.4 < upper < 6.9


@pytest.mark.parametrize("suffix", ["NS", "BO", "SS", "SZ", "SI"])
@pytest.mark.parametrize("now", ["2026-11-28T12:00Z", "2026-12-31T12:00Z", "2027-01-04T12:00Z"])
def test_calendars_that_end_do_not_end_the_service(tmp_path: Path, suffix: str, now: str) -> None:
    ticker, moment = f"600000.{suffix}", datetime.fromisoformat(now)
    exchange = exchange_of(ticker)
    last = last_completed_session(exchange, moment)
    known = sessions_up_to(ticker, min(last, date(2026, 12, 31)), 600)
    sessions = [*known, *(day for day in next_sessions(exchange, known[-1], 5) if day <= last)]
    _write_csv(tmp_path / f"{ticker}.csv", sessions, random_walk(len(sessions)))
    client = _csv_client(tmp_path, moment, tmp_path / "var")

    forecast = client.post("/predict/forecast", json={"symbol": ticker, "days": 30})
    others = [
        client.post("/predict/live", json={"symbol": ticker}),
        client.post("/predict/batch", json={"symbols": [ticker], "days": 3}),
        client.post("/models/default/forecast", json={"ticker": ticker, "horizon": 30}),
        client.post("/models/fetch-data", json={"ticker": ticker, "days": 5}),
    ]
    if last > date(2026, 12, 31):  # what looks at past sessions, among which are estimated ones
        others += [
            client.post("/models/default/backtest", json={"ticker": ticker, "start": str(sessions[-20])}),
            client.post("/models/train", json={"ticker": ticker, "model": "ewma"}),
            client.get(f"/analysis/{ticker}"),
        ]

    assert [forecast.status_code, *(other.status_code for other in others)] == [200] * (1 + len(others))
    answer = forecast.json()
    assert answer["base_date"] == str(last)
    estimated = {day["date"] for day in answer["forecast"] if day["estimated"]}
    assert estimated == {day["date"] for day in answer["forecast"] if day["date"] > "2026-12-31"}
    assert any("are estimated" in warning for warning in answer["warnings"])
    if suffix in ("NS", "BO"):
        assert "2027-01-26" not in estimated  # Republic Day


@needs_shared
@pytest.mark.parametrize("ticker", ["^GSPC", "^TNX", "^GDAXI", "GC=F"])
def test_yahoos_own_exports_answer_everything(ticker: str, tmp_path: Path) -> None:
    client = _csv_client(SHARED / "dirty", datetime(2021, 4, 22, 12, tzinfo=UTC), tmp_path)
    backtest = {"ticker": ticker, "stride": 20}
    answers = {
        "live": client.post("/predict/live", json={"symbol": ticker}),
        "forecast": client.post("/predict/forecast", json={"symbol": ticker, "days": 30}),
        "analysis": client.get(f"/analysis/{ticker}"),
        "training": client.post("/models/train", json={"ticker": ticker, "model": "volatility_regression"}),
        "backtest": client.post("/models/default/backtest", json={**backtest, "start": "2020-01-02"}),
        "early": client.post("/models/default/backtest", json={**backtest, "start": "2001-06-01", "end": "2002-06-01"}),
    }

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 200)
    for name in ("live", "forecast", "analysis", "backtest"):
        body = answers[name].json()
        assert body["dropped"] or body["repaired"], name


def _write_csv(path: Path, sessions: Sequence[date], bars: Bars) -> None:
    rows = (",".join([str(day), *map(str, row)]) for day, row in zip(sessions, bars.tolist(), strict=True))
    path.write_text("\n".join([",".join(["Date", *COLUMNS]), *rows]))


def _csv_client(folder: Path, now: datetime, data_dir: Path) -> TestClient:
    settings = Settings(_env_file=None, data_dir=data_dir, price_source="csv", price_dir=folder)
    app = application(settings, clock=lambda: now)
    app.state.runtime.executor = app.state.runtime.backtest_executor = InlineExecutor(app)
    return TestClient(app, raise_server_exceptions=False)
