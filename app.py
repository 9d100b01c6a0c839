"""The application: routes, error handlers and middleware around what the settings choose."""

import platform
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Security
from fastapi.concurrency import run_in_threadpool
from fastapi_offline import FastAPIOffline

from aws_lambda import lambda_handler
from clock import Clock, utc_now
from config import Settings, artifact_store, default_model, executor, meter, prepare_environment, price_source
from error_handlers import add_error_handlers
from routers import analysis, jobs, models, monitoring, predict, realised, root, telemetry, up, web
from routers.dependencies import TrainingSlots, validate_api_key
from routers.middleware import add_middleware
from routers.problems import document_problems
from services.health import HealthCheck
from services.jobs.job import Jobs
from services.monitoring.forecast_log import ForecastLog
from services.prices.measured import InstrumentedPriceSource, PriceFreshness
from services.storage.measured import InstrumentedStore
from services.storage.registry import ModelRegistry
from services.training.submission import resume_waiting
from services.warm_up import warm_up
from telemetry.logs import configure_logging
from telemetry.measures import BUILD_INFO
from telemetry.system import SystemUsage

VERSION = "0.1.0"
DESCRIPTION = """
Forecasts daily stock prices with an LSTM. Every price comes with a calibrated range, the no-change forecast for
comparison, and how accurate both have been.
"""


def create_app(settings: Settings, clock: Clock = utc_now) -> FastAPI:
    """The API over the store and the prices that ``settings`` choose; nothing is loaded or connected yet."""
    app: FastAPI = FastAPIOffline(
        title="Stock forecast API", version=VERSION, description=DESCRIPTION, lifespan=_serving
    )
    app.state.settings = settings
    app.state.clock = clock
    app.state.meter = meter(settings)
    app.state.meter.record(BUILD_INFO, version=VERSION, python=platform.python_version())
    app.state.system_usage = SystemUsage()
    store = InstrumentedStore(artifact_store(settings), app.state.meter)
    app.state.store = store
    app.state.forecast_log = ForecastLog(store, app.state.meter, skip_demo=settings.price_source != "sample")
    app.state.registry = ModelRegistry(store, default_model(settings), app.state.meter)
    app.state.jobs = Jobs(store)
    app.state.executor = executor(settings, app.state.jobs, clock, app.state.meter)
    watch = PriceFreshness()
    app.state.price_source = InstrumentedPriceSource(price_source(settings, app.state.meter), watch, app.state.meter)
    app.state.health_check = HealthCheck(store, watch, app.state.meter)
    app.state.training_slots = TrainingSlots(1)  # a fit seeds torch's generator, which the process has one of
    app.include_router(root.router)
    app.include_router(up.router)
    app.include_router(telemetry.router)
    app.include_router(web.router)
    for guarded in (predict.router, jobs.router, models.router, analysis.router, monitoring.router, realised.router):
        app.include_router(guarded, dependencies=[Security(validate_api_key)])
    add_error_handlers(app)
    document_problems(app)
    add_middleware(app, app.state.meter, settings.max_body_bytes)
    return app


@asynccontextmanager
async def _serving(app: FastAPI) -> AsyncIterator[None]:
    """What only a server does, not Lambda: warm up, log forecasts beside its answers, take up jobs and stop workers."""
    warming = threading.Thread(target=warm_up, args=(app.state.registry, app.state.clock()), name="warm-up")
    resuming = threading.Thread(target=resume_waiting, args=(app.state.jobs, app.state.executor), name="resume")
    warming.start()
    resuming.start()  # beside the first answers: a store that hangs must not keep them waiting
    app.state.forecast_log.start()
    yield
    await run_in_threadpool(warming.join)
    await run_in_threadpool(resuming.join)
    await run_in_threadpool(app.state.executor.close)
    await run_in_threadpool(app.state.forecast_log.flush)


prepare_environment()
_settings = Settings()
configure_logging(_settings.logs_as, replace=_settings.on_lambda)
app = create_app(_settings)
handler = lambda_handler(app)


def main() -> None:
    """Serve on HOST and PORT."""
    import uvicorn

    settings: Settings = app.state.settings
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None)


if __name__ == "__main__":
    main()
