"""The service itself: its name with links, and its health."""

from fastapi import APIRouter, Request, Response

from routers import web
from routers.dependencies import RuntimeDep
from routers.problems import problems
from schemas.root import Health, ServiceInfo

router = APIRouter(tags=["health"])


@router.get(
    "/",
    summary="Name, version and links",
    response_model=ServiceInfo,
    responses=problems() | {200: {"content": {"text/html": {}}, "description": "The page, for browsers."}},
)
def root(request: Request, runtime: RuntimeDep, response: Response) -> Response | ServiceInfo:
    """Name, version and links; a browser gets the page."""
    # browsers put text/html first, programs send JSON, */* or nothing
    if request.headers.get("Accept", "").lower().startswith("text/html"):
        return web.page(request)
    response.headers["Vary"] = "Accept"
    return ServiceInfo(service=request.app.title, version=request.app.version, timestamp=runtime.clock())


@router.get(
    "/health",
    summary="Health of the service",
    responses=problems() | {503: {"model": Health, "description": "No model can forecast."}},
)
def healthy(runtime: RuntimeDep, response: Response) -> Health:
    """Whether forecasts can be made. `degraded` is 200 too, because some models can still forecast; see `reasons`."""
    health = runtime.health_check.health(runtime.registry, runtime.clock())
    response.status_code = 503 if health.status == "unavailable" else 200
    return health
