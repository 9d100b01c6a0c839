"""Fakes of what is slow or remote; the contract suites run on them and on the real ones."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from statistics import NormalDist
from typing import Any, NoReturn

import numpy as np
from fastapi import FastAPI

from app import create_app
from bootstrap import Runtime, forecast_prices
from clock import Clock, utc_now
from config import Settings
from errors import ArtifactNotFound, StoreUnavailable, TickerNotFound
from models.base import CLOSE, QUANTILE_GRID, Bars, Origins, QuantileForecast
from schemas.job import JobSpec
from schemas.realised import ForecastRecord, RecordedStep
from schemas.train import TrainRequest
from services.evaluation.accuracy import CRPS_LEVELS
from services.forecasting.forecasting import Forecasting
from services.forecasting.replays import ReplayStore
from services.jobs.executor import Submit
from services.prices.calendars import next_sessions
from services.prices.cleaning import clean
from services.prices.market import MarketAwareSource
from services.prices.series import PriceHistory, PriceSource, Sessions
from services.storage.registry import ModelRegistry
from services.storage.store import Versioned, check_key, check_prefix
from services.storage.write_behind import WriteBehind
from services.training.work import run_training
from telemetry.measures import Metric


def application(settings: Settings, clock: Clock = utc_now, **parts: Any) -> FastAPI:
    """The application over a runtime of its own; ``parts`` as ``Runtime.from_settings`` takes them."""
    return create_app(Runtime.from_settings(settings, clock, **parts))


def use_prices(app: FastAPI, prices: PriceSource) -> None:
    """Let every route of the application read these prices."""
    runtime: Runtime = app.state.runtime
    shown = forecast_prices(runtime.settings, prices)
    runtime.prices, runtime.shown_prices = prices, shown
    runtime.model_prices, runtime.forecasting.prices = MarketAwareSource(prices), MarketAwareSource(shown)


def use_registry(app: FastAPI, registry: ModelRegistry) -> None:
    """Let every route of the application find its models here."""
    app.state.runtime.registry = app.state.runtime.forecasting.registry = registry


def forecasting(registry: ModelRegistry, prices: PriceSource) -> Forecasting:
    """The path to forecasts, with replays in memory."""
    return Forecasting(registry, prices, ReplayStore(InMemoryArtifactStore(), WriteBehind()))


class InMemoryArtifactStore:
    """Artifacts in a dictionary, thread-safe."""

    def __init__(self) -> None:
        self._artifacts: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            if key not in self._artifacts:
                raise ArtifactNotFound(key)
            return self._artifacts[key]

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._check_writable(key)
            self._artifacts[key] = data

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            self._check_writable(key)
            if key in self._artifacts:
                return False
            self._artifacts[key] = data
            return True

    def read_versioned(self, key: str) -> Versioned:
        data = self.get(key)
        return Versioned(data, sha256(data).hexdigest())

    def replace(self, key: str, data: bytes, version: str) -> bool:
        check_key(key)
        with self._lock:
            if key not in self._artifacts or sha256(self._artifacts[key]).hexdigest() != version:
                return False
            self._artifacts[key] = data
            return True

    def exists(self, key: str) -> bool:
        with self._lock:
            return check_key(key) in self._artifacts

    def list_keys(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        with self._lock:
            return sorted(key for key in self._artifacts if key.startswith(prefix))

    def delete(self, key: str) -> None:
        with self._lock:
            self._artifacts.pop(check_key(key), None)

    def _check_writable(self, key: str) -> None:
        folders = {str(folder) for folder in PurePosixPath(check_key(key)).parents}
        if folders & self._artifacts.keys() or any(other.startswith(f"{key}/") for other in self._artifacts):
            raise ValueError(f"{key!r} would be both an artifact and the folder of others")


class FakePriceSource:
    """Histories from a dictionary; any other ticker is unknown."""

    def __init__(self, *histories: PriceHistory) -> None:
        self._histories = {history.series.ticker: history for history in histories}

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        if ticker not in self._histories:
            raise TickerNotFound(f"fake does not know {ticker!r}")
        return self._histories[ticker]


class FailingPriceSource:
    """Has no prices of any ticker."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> NoReturn:
        raise self._error


class RecordingMeter:
    """Remembers every measurement."""

    def __init__(self) -> None:
        self.taken: list[tuple[Metric, float, dict[str, str]]] = []

    def record(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        self.taken.append((metric, value, labels))

    def flush(self) -> None:
        pass

    def labels(self, measure: Metric) -> list[dict[str, str]]:
        return [labels for taken, _, labels in self.taken if taken is measure]

    def values(self, measure: Metric) -> list[float]:
        return [value for taken, value, _ in self.taken if taken is measure]


class FailingStore(InMemoryArtifactStore):
    """A store that denies every put, as S3 does without permission."""

    def put(self, key: str, data: bytes) -> None:
        raise StoreUnavailable("put of an artifact in bucket 'models' was denied (AccessDenied)")

    def replace(self, key: str, data: bytes, version: str) -> bool:
        raise StoreUnavailable("put of an artifact in bucket 'models' was denied (AccessDenied)")


class UnreliableStore(InMemoryArtifactStore):
    """Records its calls; all fail while it is down, and writes of a key that it refuses."""

    def __init__(self, *, down: bool = False) -> None:
        super().__init__()
        self.down = down
        self.refuses: Callable[[str], bool] = lambda key: False
        self.calls: list[str] = []

    def get(self, key: str) -> bytes:
        self._record("get")
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self._record("put", refused=self.refuses(key))
        super().put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._record("create", refused=self.refuses(key))
        return super().create(key, data)

    def replace(self, key: str, data: bytes, version: str) -> bool:
        self._record("replace", refused=self.refuses(key))
        return super().replace(key, data, version)

    def exists(self, key: str) -> bool:
        self._record("exists")
        return super().exists(key)

    def list_keys(self, prefix: str) -> list[str]:
        self._record("list")
        return super().list_keys(prefix)

    def _record(self, call: str, *, refused: bool = False) -> None:
        self.calls.append(call)
        if self.down or refused:
            raise StoreUnavailable("the store is down")


class InlineExecutor:
    """Trains at once, in the calling thread, with the current state of the application."""

    name = "inline"

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield self._run

    def close(self) -> None:
        pass

    def _run(self, job_id: str) -> None:
        run_training(job_id, "inline", self._app.state.runtime.worker_context)


class ListingExecutor:
    """Lists the jobs that were submitted to it, and runs none."""

    def __init__(self, name: str = "lane") -> None:
        self.name = name
        self.submitted: list[str] = []

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield self.submitted.append

    def close(self) -> None:
        pass


class ManualClock:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FixedForecaster:
    """Quantiles of a log-normal return with a volatility of 1 % a session; the bars do not matter."""

    def __init__(self, horizon: int = 3, lookback: int = 2) -> None:
        self.horizon = horizon
        self.lookback = lookback

    def predict_quantiles(self, bars: Bars, origins: Origins) -> QuantileForecast:
        normal = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_GRID])
        spread = 0.01 * np.sqrt(np.arange(1, self.horizon + 1))
        returns = spread[:, None] * normal  # (horizon, n_levels)
        return QuantileForecast(np.array(QUANTILE_GRID), bars[origins, CLOSE, None, None] * np.exp(returns))


EMPTY_REGISTRY = ModelRegistry(InMemoryArtifactStore())


def random_walk(n_sessions: int, seed: int = 0, daily_volatility: float = 0.01, start: float = 100.0) -> Bars:
    """Bars of a random walk with plausible ranges and volumes, shape (n_sessions, 5)."""
    rng = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(rng.normal(0, daily_volatility, n_sessions)))
    opened = np.concatenate([[start], close[:-1]]) * np.exp(rng.normal(0, daily_volatility / 4, n_sessions))
    stretch = np.exp(np.abs(rng.normal(0, daily_volatility / 2, (2, n_sessions))))
    high = np.maximum(opened, close) * stretch[0]
    low = np.minimum(opened, close) / stretch[1]
    return np.column_stack([opened, high, low, close, rng.uniform(1e5, 1e6, n_sessions)])


def new_york_sessions(n_sessions: int, first: date = date(2010, 1, 4)) -> Sessions:
    """The sessions of the New York exchange from ``first`` on."""
    return np.array([first, *next_sessions("XNYS", first, n_sessions - 1)], dtype="datetime64[D]")


def history_of(bars: Bars, ticker: str = "WALK", sessions: Sessions | None = None) -> PriceHistory:
    """The cleaned bars of these sessions, by default of New York's."""
    series, defects = clean(ticker, new_york_sessions(len(bars)) if sessions is None else sessions, bars, "USD")
    return PriceHistory(series, source="fake", defects=defects)


@cache
def walk_history(ticker: str = "WALK", n_sessions: int = 500, seed: int = 0) -> PriceHistory:
    """A random walk on New York's sessions."""
    return history_of(random_walk(n_sessions, seed), ticker)


def write_prices(folder: Path, history: PriceHistory) -> None:
    """The bars as ``TICKER.csv``, as universes and the source of CSV files have them."""
    series = history.series
    rows = [
        ",".join([str(day), *map(repr, bar)]) for day, bar in zip(series.sessions, series.bars.tolist(), strict=True)
    ]
    (folder / f"{series.ticker}.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume", *rows]))


def job_spec(job_id: str, now: datetime, model_id: str = "walk-1", **request: object) -> JobSpec:
    """A job that a worker may claim for an hour."""
    asked = TrainRequest.model_validate({"ticker": "WALK", **request})
    deadline = now + timedelta(hours=1)
    return JobSpec(id=job_id, created_at=now, claim_deadline=deadline, model_id=model_id, request=asked)


def forecast_record(
    ticker: str,
    origin: date,
    sessions: Sequence[date],
    last: float,
    levels: tuple[float, ...] = (0.8,),
    half: float = 1.0,
    model_id: str = "walk-1",
) -> ForecastRecord:
    """A forecast of no change, made on the evening of its origin; each level's interval is ``half`` wider each way."""
    halves = [half * (k + 1) for k in range(len(levels))]
    steps = tuple(
        RecordedStep(
            step=step,
            session=session,
            median=last,
            lower=tuple(last - one for one in halves),
            upper=tuple(last + one for one in halves),
            quantiles=tuple((last + half * (CRPS_LEVELS - 0.5)).tolist()),
        )
        for step, session in enumerate(sessions, start=1)
    )
    return ForecastRecord(
        ticker=ticker,
        model_id=model_id,
        model="persistence",
        target_column="Close",
        origin=origin,
        made_at=datetime.combine(origin, time(23), UTC),
        last=last,
        levels=levels,
        steps=steps,
    )
