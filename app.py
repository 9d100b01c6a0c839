"""The application: routes, error handlers and middleware over a runtime."""

import platform
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.concurrency import run_in_threadpool
from fastapi_offline import FastAPIOffline

from aws_lambda import lambda_handler
from bootstrap import Runtime
from error_handlers import add_error_handlers
from routers import analysis, jobs, models, monitoring, predict, realised, root, telemetry, up, web
from routers.dependencies import validate_api_key
from routers.middleware import add_middleware
from routers.problems import document_problems
from services.training.submission import resume_waiting
from services.warm_up import warm_up
from telemetry.measures import BUILD_INFO

VERSION = "0.1.0"
DESCRIPTION = """
Forecasts daily stock prices with an LSTM. Every price comes with a calibrated range, the no-change forecast for
comparison, and how accurate both have been.
"""

app: FastAPI
handler: Callable[[Any, Any], dict[str, Any] | None]


def create_app(runtime: Runtime | None = None) -> FastAPI:
    """Build the application for a runtime, by default that of the environment."""
    runtime = runtime or Runtime.from_environment()
    app: FastAPI = FastAPIOffline(
        title="Stock forecast API", version=VERSION, description=DESCRIPTION, lifespan=_serving
    )
    app.state.runtime = runtime
    runtime.meter.record(BUILD_INFO, version=VERSION, python=platform.python_version())
    app.include_router(root.router)
    app.include_router(up.router)
    app.include_router(telemetry.router)
    app.include_router(web.router)
    for guarded in (predict.router, jobs.router, models.router, analysis.router, monitoring.router, realised.router):
        app.include_router(guarded, dependencies=[Security(validate_api_key)])
    add_error_handlers(app)
    document_problems(app)
    add_middleware(app, runtime.meter, runtime.settings.max_body_bytes)
    return app


@asynccontextmanager
async def _serving(app: FastAPI) -> AsyncIterator[None]:
    """What a server does but Lambda does not: warm up, write in the background, resume jobs, stop workers."""
    runtime: Runtime = app.state.runtime
    warming = threading.Thread(target=warm_up, args=(runtime.registry, runtime.clock()), name="warm-up")
    resuming = threading.Thread(target=_resume, args=(runtime,), name="resume")
    warming.start()
    resuming.start()  # in parallel to the first answers: a store that hangs must not keep them waiting
    runtime.writer.start()
    yield
    await run_in_threadpool(warming.join)
    await run_in_threadpool(resuming.join)
    await run_in_threadpool(runtime.executor.close)
    await run_in_threadpool(runtime.backtest_executor.close)
    await run_in_threadpool(runtime.writer.flush)


def _resume(runtime: Runtime) -> None:
    resume_waiting(runtime.jobs, runtime.executor)
    resume_waiting(runtime.jobs, runtime.backtest_executor, "backtest")


def __getattr__(name: str) -> Any:
    """Build ``app:app`` for ASGI servers and ``app.handler`` for Lambda on first use; an import builds nothing."""
    if name == "app":
        globals()[name] = create_app()
    elif name == "handler":
        globals()[name] = lambda_handler(create_app())
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]


def main() -> None:
    """Serve on HOST and PORT."""
    import uvicorn

    served = create_app()
    settings = served.state.runtime.settings
    uvicorn.run(served, host=settings.host, port=settings.port, log_config=None)


if __name__ == "__main__":
    main()
