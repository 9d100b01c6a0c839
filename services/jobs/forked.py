"""The life of a forked process, which does one thing and must never return into what its parent was doing."""

import logging
import os
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)


def end_after(work: Callable[[], object], failure: str) -> NoReturn:
    """End this process with the exit code of the work; ``failure`` is logged where it raises."""
    code = 1
    try:
        work()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        log.exception(failure)
    finally:
        logging.shutdown()
        os._exit(code)  # nothing of the parent's is done twice
