"""Load the libraries, the bundled network and a trading calendar before a process's first forecast."""

import gc
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from functools import cache

from errors import AppError
from services.prices.calendars import last_completed_session
from services.prices.exchanges import NEW_YORK
from services.storage.registry import ModelRegistry

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

_log = logging.getLogger(__name__)


def until_done(step: Callable[[], None], stopping: threading.Event, name: str) -> None:
    """Run the step, and again after a pause while it fails; every failure is logged, and ends nothing.

    A server's thread of its own: no one else would see the error, nor try again.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            step()
        except Exception:  # noqa: BLE001 - a thread of its own, see above
            _log.exception("%s failed; next try in %g s", name, pause_s)
        else:
            return
        if stopping.wait(pause_s):
            return
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


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
