"""The wall clock, and the only file that asks it; everything else is told the time."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time; a test's tells its own."""

    def __call__(self) -> datetime:
        """Now, with a time zone."""
        ...


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
