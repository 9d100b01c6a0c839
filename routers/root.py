"""The service itself: its name with links, and its health."""

from fastapi import APIRouter, Request, Response

from routers import web
from routers.dependencies import HealthCheckDep, NowDep, RegistryDep
from routers.problems import problems
from schemas.root import Health, ServiceInfo

router = APIRouter(tags=["health"])


@router.get(
    "/",
    summary="What this is",
    response_model=ServiceInfo,
    responses=problems() | {200: {"content": {"text/html": {}}, "description": "The page, for whoever accepts HTML."}},
)
def root(request: Request, now: NowDep, response: Response) -> Response | ServiceInfo:
    """Name, version and where to go from here; a browser gets the page."""
    if web.prefers_html(request.headers.getlist("Accept")):
        return web.page(request)
    response.headers["Vary"] = "Accept"
    return ServiceInfo(service=request.app.title, version=request.app.version, timestamp=now)


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    summary="Can it forecast?",
    responses=problems() | {503: {"model": Health, "description": "Neither the default model nor a stored one."}},
)
def healthy(health_check: HealthCheckDep, registry: RegistryDep, now: NowDep, response: Response) -> Health:
    """Answer 200 also when degraded: something can still be forecast. The reasons say what is wrong."""
    health = health_check.health(registry, now)
    response.status_code = 503 if health.status == "unavailable" else 200
    return health
