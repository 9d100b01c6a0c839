"""Chunks of runs as tasks of a Ray cluster: the only file that imports ray."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from errors import TrainerUnavailable
from services.jobs.executor import OnExit, Submit

WATCH_S = 0.5

log = logging.getLogger(__name__)

Task = Callable[[bytes, str], None]
"""Does a piece, with settings as JSON. Ray's workers import it by its name."""


class RayExecutor:
    """Submits one task per piece; Ray queues it, finds a node with a free core and notices when that node dies.

    Ray repeats no task itself: a repeated task cannot know whether the worker before it is dead. ``on_exit`` gets each
    loss, so that the coordinator records it and submits the piece again.

    Args:
        address: of the cluster, or ``auto``.
        task: what a worker does.
        settings: for the task, as JSON.
        on_exit: called when a task has ended.

    Raises:
        TrainerUnavailable: there is no such cluster, or ray is not installed.
    """

    name = "ray"

    def __init__(self, address: str, task: Task, settings: bytes, on_exit: OnExit) -> None:
        self._ray = _connected(address)
        # a core each, as a local worker; a failure that a worker does not record itself is a loss
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(task)
        self._settings = settings
        self._on_exit = on_exit
        self._running: dict[Any, str] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._watcher = threading.Thread(target=self._watch, name="ray", daemon=True)
        self._watcher.start()

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        # always room here: Ray queues what its nodes have no core for
        yield self._submit

    def close(self) -> None:
        """Cancel what has not begun, and leave the cluster, which ends the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._watcher.join()
        self._ray.shutdown()

    def _submit(self, piece: str) -> None:
        reference = self._task.remote(self._settings, piece)
        with self._changed:
            self._running[reference] = piece
            self._changed.notify_all()

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._running or self._closed)
                if self._closed:
                    return
                references = list(self._running)
            ended, _ = self._ray.wait(references, num_returns=len(references), timeout=WATCH_S)
            for reference in ended:
                with self._changed:
                    piece = self._running.pop(reference)
                self._on_exit(piece, self._failure(reference))

    def _failure(self, reference: Any) -> str | None:
        """Why the worker of a task was lost; None where it was not."""
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            log.warning("a task of Ray failed: %s", error)
            return f"the worker failed: {type(error.cause).__name__}"
        except self._ray.exceptions.RayError as error:
            return f"Ray lost the worker: {type(error).__name__}"
        return None


def _connected(address: str) -> Any:
    """The module, connected to the cluster."""
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise TrainerUnavailable("EXECUTOR=ray needs the package ray, which is not installed") from error
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING, configure_logging=False)
    except (ConnectionError, ValueError) as error:
        raise TrainerUnavailable(f"the Ray cluster {address!r} cannot be reached") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in the place, which ends the process at once
    return ray
