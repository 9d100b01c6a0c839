"""What routes are handed: the store's models, prices, settings and the clock."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from config import Settings
from errors import TooManyTrainings
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry

TRAINING_RETRY_S = 30


class Clock(Protocol):
    """Tells the time; a test's tells its own."""

    def __call__(self) -> datetime:
        """Now, with a time zone."""
        ...


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class TrainingSlots:
    """Bounds how many models are trained at once in this process."""

    def __init__(self, count: int) -> None:
        self._slots = threading.BoundedSemaphore(count)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a slot.

        Raises:
            TooManyTrainings: none is free.
        """
        if not self._slots.acquire(blocking=False):
            raise TooManyTrainings("another model is being trained; try again later", retry_after_s=TRAINING_RETRY_S)
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


def _rescue_registry(request: Request) -> ModelRegistry:
    registry: ModelRegistry = request.app.state.rescue_registry
    return registry


def _prices(request: Request) -> PriceSource:
    source: PriceSource = request.app.state.price_source
    return source


def _now(request: Request) -> datetime:
    clock: Clock = request.app.state.clock
    return clock()


def _training_slots(request: Request) -> TrainingSlots:
    slots: TrainingSlots = request.app.state.training_slots
    return slots


SettingsDep = Annotated[Settings, Depends(_settings)]
RegistryDep = Annotated[ModelRegistry, Depends(_registry)]
RescueRegistryDep = Annotated[ModelRegistry, Depends(_rescue_registry)]
PriceSourceDep = Annotated[PriceSource, Depends(_prices)]
NowDep = Annotated[datetime, Depends(_now)]
TrainingSlotsDep = Annotated[TrainingSlots, Depends(_training_slots)]


def refuse_future(now: datetime, where: str = "body", /, **dates: date | None) -> None:
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
