"""What the first forecast of a process would otherwise wait for: imports, the bundled network, a trading calendar."""

import logging
from datetime import datetime

from errors import AppError
from services.prices.calendars import last_completed_session
from services.storage.registry import ModelRegistry

ANY_TICKER = "^GSPC"  # most exchanges are one calendar away, all libraries are then there

log = logging.getLogger(__name__)


def warm_up(registry: ModelRegistry, now: datetime) -> None:
    """Load what most first requests need; neither store nor network is asked.

    What cannot be loaded is logged: whoever needs it is told.
    """
    try:
        if registry.bundled is not None:
            registry.load(registry.bundled)
        last_completed_session(ANY_TICKER, now)
    except AppError as error:
        log.warning("not warmed up: %s", error.message)
