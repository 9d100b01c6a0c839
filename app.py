"""The application: routes, error handlers and middleware over a runtime."""

import asyncio
import faulthandler
import itertools
import logging
import platform
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fastapi import FastAPI

from aws_lambda import lambda_handler
from bootstrap import Runtime, process_settings
from config import Settings
from error_handlers import add_error_handlers
from errors import AppError
from routers import (
    analysis,
    documentation,
    forecasts,
    jobs,
    models,
    monitoring,
    predict,
    realised,
    root,
    runs,
    symbols,
    telemetry,
    up,
    web,
)
from routers.guard import document_access, include, include_guarded
from routers.middleware import add_middleware
from routers.problems import document_problems
from server.limits import STATE, Connections, connection_limit, raise_file_limit
from services.jobs.job import START_WITHIN
from services.runs.submission import resume_waiting_runs
from services.storage.store import remove_temporary_files
from services.training.submission import resume_waiting
from services.warm_up import until_done, warm_up
from telemetry.measures import BUILD_INFO

VERSION = "0.1.0"
DESCRIPTION = """
Forecasts daily stock prices with an LSTM. Every price comes with a calibrated range, the no-change forecast for
comparison, and how accurate both have been.
"""

DELIVER_EVERY_S = 60.0
RESUME_EVERY_S = 60.0
RESUME_RUNS_EVERY = 10  # of these times: the documents of all runs are listed
CLEAN_EVERY_S = 24 * 3600.0
WRITTEN_WITHIN = timedelta(hours=1)  # by far: an older temporary file has lost its writer

TAGS = {  # in the order in which a person needs them
    "symbols": "Find a ticker by the name of a company, an index or a fund.",
    "predict": "Forecast a symbol: the next close, up to 30 sessions, or many symbols at once.",
    "forecasts": "The forecasts that were made in advance, for the tickers of the nightly run.",
    "models": "Train models, forecast with one, backtest it, and choose which one answers.",
    "jobs": "Trainings and long backtests: follow, cancel and retry them.",
    "runs": "One action over many tickers.",
    "analysis": "A ticker's past: volatility, drawdowns, seasonality.",
    "monitoring": "Did it come true? Scores of past forecasts, drift, metrics.",
    "health": "Whether the service works.",
}

END_S = 8.0  # for what a server has begun, once the last request has its answer

log = logging.getLogger(__name__)

app: FastAPI
handler: Callable[[Any, Any], dict[str, Any] | None]


def create_app(runtime: Runtime | None = None) -> FastAPI:
    """Build the application for a runtime, by default that of the environment."""
    runtime = runtime or Runtime.from_environment()
    app = FastAPI(
        title="Stock forecast API",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=_serving,
        openapi_url=None,
        openapi_tags=[{"name": name, "description": description} for name, description in TAGS.items()],
    )
    app.state.runtime = runtime
    runtime.meter.record(BUILD_INFO, version=VERSION, python=platform.python_version())
    for router in (root.router, up.router, telemetry.router, web.router):
        include(app, router)
    for guarded in (predict, forecasts, symbols, jobs, runs, models, analysis, monitoring, realised):
        include_guarded(app, guarded.router)
    add_error_handlers(app)
    document_problems(app)
    document_access(app)
    app.state.documentation = documentation.add_documentation(app)
    add_middleware(app, runtime.meter, runtime.settings)
    return app


@asynccontextmanager
async def _serving(app: FastAPI) -> AsyncIterator[dict[str, Connections]]:
    """What a server does but Lambda does not: warm up, write in the background, resume jobs, stop workers.

    Yields the limits that ``server.protocol`` keeps.
    """
    runtime: Runtime = app.state.runtime
    stopping = threading.Event()
    begins = {
        "warm-up": partial(warm_up, runtime.registry, runtime.clock()),
        "resume": partial(_resume, runtime, stopping),
        "cleaning": partial(_clean, runtime, stopping),
    }
    # in parallel to the first answers: a store that hangs must not keep them waiting
    started = [_thread(name, partial(until_done, begin, stopping, name)) for name, begin in begins.items()]
    runtime.writer.start()
    # not among those that the end waits for: an attempt that is cut off is made again
    _thread("webhooks", partial(until_done, partial(_deliver_webhooks, runtime, stopping), stopping, "webhooks"))
    limit = connection_limit(runtime.settings.max_connections, raise_file_limit())
    yield {STATE: Connections(limit, runtime.settings.header_timeout_s)}
    stopping.set()
    ends = (runtime.executor.close, runtime.backtest_executor.close, runtime.run_executor.close, runtime.writer.flush)
    await _ended([*[_thread(end.__qualname__, end) for end in ends], *started])


def _thread(name: str, call: Callable[[], object]) -> threading.Thread:
    """A thread that runs the call, and that the end of the process does not wait for."""
    thread = threading.Thread(target=call, name=name, daemon=True)
    thread.start()
    return thread


async def _ended(threads: Sequence[threading.Thread]) -> None:
    """Wait until the threads have ended, but not for ever: one may wait for a store that hangs.

    Without the pool of threads for requests: all of them may wait for that store.
    """
    deadline = time.monotonic() + END_S
    while running := [thread.name for thread in threads if thread.is_alive()]:
        if time.monotonic() > deadline:
            log.warning("not ended within %g s: %s", END_S, ", ".join(running))
            return
        await asyncio.sleep(0.01)


def _deliver_webhooks(runtime: Runtime, stopping: threading.Event) -> None:
    """Deliver what is due at the start, and every minute until the server stops."""
    while True:
        runtime.announcements.deliver_due()
        if stopping.wait(DELIVER_EVERY_S):
            return


def _resume(runtime: Runtime, stopping: threading.Event) -> None:
    """Start workers on what earlier processes left waiting, and at intervals on what failures of the store left.

    An event of Lambda is not sent again: it may itself wait for its turn.
    """
    _resume_jobs(runtime)
    resume_waiting_runs(runtime.runs, runtime.run_executor)
    if runtime.settings.trainer_function_name is not None:
        return
    for minute in itertools.count(1):
        # not in step with other servers, nor with whatever stops the store at intervals
        if stopping.wait(RESUME_EVERY_S * random.uniform(0.75, 1.25)):  # noqa: S311 - no secret
            return
        _resume_jobs(runtime, runtime.clock() - START_WITHIN)
        if minute % RESUME_RUNS_EVERY == 0:
            resume_waiting_runs(runtime.runs, runtime.run_executor)


def _clean(runtime: Runtime, stopping: threading.Event) -> None:
    """Delete what killed processes have left of files, at the start and every day."""
    while True:
        try:
            n_removed = remove_temporary_files(runtime.settings.writable_dir, runtime.clock() - WRITTEN_WITHIN)
            if n_removed:
                log.info("removed temporary files that killed processes left: %d", n_removed)
        except AppError as error:
            log.warning("temporary files of killed processes were not removed: %s", error.message)
        if stopping.wait(CLEAN_EVERY_S):
            return


def _resume_jobs(runtime: Runtime, since: datetime | None = None) -> None:
    now = runtime.clock()
    resume_waiting(runtime.jobs, runtime.executor, now, "training", since)
    resume_waiting(runtime.jobs, runtime.backtest_executor, now, "backtest", since)


def __getattr__(name: str) -> Any:
    """Build ``app:app`` for ASGI servers and ``app.handler`` for Lambda on first use; an import builds nothing."""
    if name == "app":
        globals()[name] = create_app()
    elif name == "handler":
        globals()[name] = lambda_handler(create_app())
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def run_server(**settings_given: object) -> None:
    """Serve on HOST and PORT with WEB_CONCURRENCY processes; ``settings_given`` override the environment."""
    from server.processes import serve_in_processes
    from server.run import serve

    faulthandler.enable()  # a crash in native code shows where it came from, in each process forked from this one too
    settings = process_settings(**settings_given)
    if settings.n_processes == 1:
        serve(create_app(Runtime.from_settings(settings)), settings)
    else:
        serve_in_processes(_warm_app, settings)


def _warm_app(settings: Settings) -> FastAPI:
    """The application of one process of several, whose first answer is as quick as any other."""
    app = create_app(Runtime.from_settings(settings))
    runtime: Runtime = app.state.runtime
    try:
        warm_up(runtime.registry, runtime.clock())
    except Exception:
        log.exception("not warmed up")
    return app


if __name__ == "__main__":
    run_server()
