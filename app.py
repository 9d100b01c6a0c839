"""The application: routes, error handlers and middleware around what the settings choose; Lambda's handler."""

from collections.abc import Callable
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

from config import Settings, artifact_store, default_model, prepare_environment, price_source, rescue_store
from error_handlers import add_error_handlers
from routers import analysis, models, predict, root, up
from routers.dependencies import Clock, TrainingSlots, utc_now
from routers.middleware import BodyLimitMiddleware, RequestIdMiddleware
from routers.problems import MEDIA_TYPE, document_problems
from services.storage.registry import ModelRegistry

VERSION = "0.1.0"
DESCRIPTION = """
Forecasts of daily stock prices by an LSTM that say what they are worth: every price comes with a
calibrated interval and with persistence ("tomorrow = today"), the forecast of doing nothing.
"""


class NotAnHttpEvent(Exception):
    """Lambda was invoked with something that is no request."""


def create_app(settings: Settings, clock: Clock = utc_now) -> FastAPI:
    """The API over the store and the prices that ``settings`` choose; nothing is loaded or connected yet."""
    app: FastAPI = FastAPIOffline(title="Stock forecast API", version=VERSION, description=DESCRIPTION)
    app.state.settings = settings
    app.state.clock = clock
    app.state.registry = ModelRegistry(artifact_store(settings), default_model(settings))
    app.state.rescue_registry = ModelRegistry(rescue_store(settings))
    app.state.price_source = price_source(settings)
    app.state.training_slots = TrainingSlots(1)  # a fit seeds torch's generator, which the process has one of
    app.include_router(root.router)
    app.include_router(up.router)
    app.include_router(predict.router)
    app.include_router(models.router)
    app.include_router(analysis.router)
    add_error_handlers(app)
    document_problems(app)
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(RequestIdMiddleware)
    return app


def lambda_handler(app: FastAPI) -> Callable[[Any, Any], dict[str, Any]]:
    """What AWS Lambda calls with each event of the function URL.

    Anything else fails the invocation instead of being answered: a returned
    error would count as success, with no retry and nothing in a dead-letter queue.
    """

    @cache
    def adapter() -> Mangum:  # built on the first event: it opens an event loop
        return Mangum(app, lifespan="off", text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, MEDIA_TYPE])

    def handle(event: Any, context: Any) -> dict[str, Any]:
        if not _is_http(event):
            found = ", ".join(sorted(map(str, event))) if isinstance(event, dict) else type(event).__name__
            raise NotAnHttpEvent(f"expected a function-URL event (payload version 2.0), found {found[:200]}")
        return adapter()(event, context)

    return handle


def _is_http(event: Any) -> bool:
    if not isinstance(event, dict) or event.get("version") != "2.0":
        return False
    context = event.get("requestContext")
    return isinstance(context, dict) and isinstance(context.get("http"), dict)


prepare_environment()
app = create_app(Settings())
handler = lambda_handler(app)


def main() -> None:
    """Serve on HOST and PORT."""
    import uvicorn

    settings: Settings = app.state.settings
    uvicorn.run(app, host=settings.host, port=settings.port)


if __name__ == "__main__":
    main()
