"""The API in this process: requests need no network, and trainings run in a thread."""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal

from config import Settings
from errors import AppError, TrainingCapacityExceeded
from services.announcements import Announcements
from services.jobs.executor import Submit
from services.training.work import WorkerContext, run_training
from stock_forecast_client import Client

NOT_LOCAL = ("api_key", "api_keys", "rate_limit_requests", "rate_limit_cpu_s", "trainer_function_name")
POLL_S = 0.2  # in one process, polling costs little
BEAT_S = 0.5  # an interrupted training ends at the next heartbeat

log = logging.getLogger(__name__)


@contextmanager
def local_client(settings: Settings) -> Iterator[Client]:
    """A client of the application in this process, built from these settings; its jobs and runs end with the block."""
    from app import create_app  # importing the routes takes a second: not for --help
    from bootstrap import Runtime

    # trained here, whatever a server would do
    runtime = Runtime.from_settings(settings.model_copy(update=dict.fromkeys(NOT_LOCAL)))
    trainer = runtime.executor = runtime.backtest_executor = InThisProcess(
        runtime.worker_context, runtime.announcements
    )
    asgi = httpx2.ASGITransport(create_app(runtime), raise_app_exceptions=False)
    with (
        start_blocking_portal() as portal,
        Client("http://local", attempts=1, poll_s=POLL_S, transport=InProcess(portal, asgi)) as client,
    ):
        try:
            yield client
            trainer.close()
        finally:
            runtime.run_executor.close()
            runtime.writer.flush()  # no lifespan does it here


class InProcess(httpx2.BaseTransport):
    """Hands requests to an asynchronous transport on an event loop in another thread."""

    def __init__(self, portal: BlockingPortal, transport: httpx2.AsyncBaseTransport) -> None:
        self._portal = portal
        self._transport = transport

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """The other transport's answer, read to its end."""
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["Accept-Encoding"] = "identity"  # nothing travels, so nothing is compressed
        response = await self._transport.handle_async_request(request)
        return httpx2.Response(response.status_code, headers=response.headers, content=await response.aread())


class InThisProcess:
    """Trains one model at a time, in a thread that ends with the process."""

    def __init__(self, context: WorkerContext, announcements: Announcements) -> None:
        self._context = replace(context, beat_s=BEAT_S)
        self._announcements = announcements
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        """The name of the executor that would run trainings here in a server."""
        return self._context.executor or ""

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        """Room for a training; see ``services.jobs.executor.Executor``."""
        if self._thread is not None and self._thread.is_alive():
            raise TrainingCapacityExceeded("a model is being trained in this process already")
        yield self._start

    def close(self) -> None:
        """Wait for the training, if there is one."""
        if self._thread is not None:
            self._thread.join()

    def _start(self, job_id: str) -> None:
        self._thread = threading.Thread(target=self._run, args=(job_id,), name="training", daemon=True)
        self._thread.start()

    def _run(self, job_id: str) -> None:
        try:
            run_training(job_id, self._worker, self._context)
            self._announcements.deliver_job(job_id)
        except AppError as error:  # the store is down; without a heartbeat the job counts as lost
            log.error("the job %s could not be ended: %s", job_id, error.message)  # noqa: TRY400 - no traceback
