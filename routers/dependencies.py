"""What routes are handed: the store's models and jobs, prices, settings and the clock."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader

from clock import Clock
from config import Settings, forecast_prices
from errors import NotAuthenticated, TrainingCapacityExceeded
from services.forecasts.served import ForecastObserver, ServedForecast
from services.health import HealthCheck
from services.jobs.executor import Executor
from services.jobs.job import Jobs
from services.monitoring.forecast_log import ForecastLog
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry
from services.storage.store import ArtifactStore
from telemetry.measures import PREDICTION_SECONDS, PREDICTIONS, Meter
from telemetry.system import SystemUsage

TRAINING_RETRY_S = 30
_API_KEY = APIKeyHeader(name="X-API-Key", auto_error=False, description="Only where the server has an API_KEY.")


class TrainingSlots:
    """Bounds how many models are trained at once in this process."""

    def __init__(self, count: int) -> None:
        self._slots = threading.BoundedSemaphore(count)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot.

        Raises:
            TrainingCapacityExceeded: none is free.
        """
        if not self._slots.acquire(blocking=False):
            raise TrainingCapacityExceeded(
                "another model is being trained; try again later", retry_after_s=TRAINING_RETRY_S
            )
        try:
            yield
        finally:
            self._slots.release()


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _registry(request: Request) -> ModelRegistry:
    registry: ModelRegistry = request.app.state.registry
    return registry


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.jobs
    return jobs


def _executor(request: Request) -> Executor:
    executor: Executor = request.app.state.executor
    return executor


def _prices(request: Request) -> PriceSource:
    source: PriceSource = request.app.state.price_source
    return source


def _forecast_prices(request: Request) -> PriceSource:
    return forecast_prices(_settings(request), _prices(request))


def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


def _now(request: Request) -> datetime:
    return _clock(request)()


def _training_slots(request: Request) -> TrainingSlots:
    slots: TrainingSlots = request.app.state.training_slots
    return slots


def _store(request: Request) -> ArtifactStore:
    store: ArtifactStore = request.app.state.store
    return store


def _forecast_log(request: Request) -> ForecastLog:
    log: ForecastLog = request.app.state.forecast_log
    return log


def _meter(request: Request) -> Meter:
    meter: Meter = request.app.state.meter
    return meter


def _health_check(request: Request) -> HealthCheck:
    health_check: HealthCheck = request.app.state.health_check
    return health_check


def _system_usage(request: Request) -> SystemUsage:
    usage: SystemUsage = request.app.state.system_usage
    return usage


HealthCheckDep = Annotated[HealthCheck, Depends(_health_check)]
SystemUsageDep = Annotated[SystemUsage, Depends(_system_usage)]
StoreDep = Annotated[ArtifactStore, Depends(_store)]
ForecastLogDep = Annotated[ForecastLog, Depends(_forecast_log)]
MeterDep = Annotated[Meter, Depends(_meter)]
SettingsDep = Annotated[Settings, Depends(_settings)]
RegistryDep = Annotated[ModelRegistry, Depends(_registry)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
ExecutorDep = Annotated[Executor, Depends(_executor)]
PriceSourceDep = Annotated[PriceSource, Depends(_prices)]
ForecastPricesDep = Annotated[PriceSource, Depends(_forecast_prices)]
ClockDep = Annotated[Clock, Depends(_clock)]
NowDep = Annotated[datetime, Depends(_now)]
TrainingSlotsDep = Annotated[TrainingSlots, Depends(_training_slots)]


def validate_api_key(settings: SettingsDep, given: Annotated[str | None, Security(_API_KEY)]) -> None:
    """Let a request pass that brings the API key, and any where none is set.

    Raises:
        NotAuthenticated: the key is missing or wrong.
    """
    if settings.api_key is None:
        return
    expected = settings.api_key.get_secret_value()
    if given is None or not secrets.compare_digest(given.encode(), expected.encode()):
        raise NotAuthenticated("the header X-API-Key is missing or wrong")


def record_prediction(meter: Meter, kind: str, inference_ms: float | None = None) -> None:
    """Count a forecast that is being answered, and the time the model took where it is known."""
    meter.record(PREDICTIONS, type=kind)
    if inference_ms is not None:
        meter.record(PREDICTION_SECONDS, inference_ms / 1000, type=kind)


def record_served(log: ForecastLog, meter: Meter, kind: str) -> ForecastObserver:
    """Log what is served, and measure the time the model took for it."""

    def on_served(served: ServedForecast) -> None:
        meter.record(PREDICTION_SECONDS, served.inference.elapsed_ms / 1000, type=kind)
        log.record(served)

    return on_served


def validate_not_future(now: datetime, where: str = "body", /, **dates: date | None) -> None:
    """Answer 422 for a date that is not yet today anywhere on earth; ``where`` it was given is named.

    Raises:
        RequestValidationError: names each such field.
    """
    today = (now.astimezone(UTC) + timedelta(hours=14)).date()
    errors = [
        {"type": "date_in_future", "loc": (where, name), "msg": f"{day} is in the future"}
        for name, day in dates.items()
        if day is not None and day > today
    ]
    if errors:
        raise RequestValidationError(errors)
