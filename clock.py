"""The wall clock, which only this file reads; all other code receives the time as an argument."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def __call__(self) -> datetime:
        """The present, with a time zone."""


def utc_now() -> datetime:
    return datetime.now(UTC)
