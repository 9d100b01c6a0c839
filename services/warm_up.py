"""Load the libraries, the bundled network and a trading calendar before a process's first forecast."""

import gc
import logging
from datetime import datetime
from functools import cache

from errors import AppError
from services.prices.calendars import last_completed_session
from services.prices.exchanges import NEW_YORK
from services.storage.registry import ModelRegistry

_log = logging.getLogger(__name__)


def warm_up(registry: ModelRegistry, now: datetime) -> None:
    """Load what most first requests need, without store or network. Errors are logged."""
    try:
        if registry.bundled is not None:
            registry.load(registry.bundled)
        last_completed_session(NEW_YORK, now)  # imports the libraries that every calendar needs
    except AppError as error:
        _log.warning("not warmed up: %s", error.message)
    _freeze()


@cache
def _freeze() -> None:
    """Keep what lives as long as the process out of garbage collections: a full one halts all answers for 0.1 s."""
    gc.collect()
    gc.freeze()
