"""Load what a process needs for its first forecast: libraries, the bundled network, a trading calendar."""

import logging
from datetime import datetime

from errors import AppError
from services.prices.calendars import last_completed_session
from services.prices.exchanges import NEW_YORK
from services.storage.registry import ModelRegistry

log = logging.getLogger(__name__)


def warm_up(registry: ModelRegistry, now: datetime) -> None:
    """Load what most first requests need, without store or network. What cannot be loaded is logged."""
    try:
        if registry.bundled is not None:
            registry.load(registry.bundled)
        last_completed_session(NEW_YORK, now)  # imports the libraries that every calendar needs
    except AppError as error:
        log.warning("not warmed up: %s", error.message)
