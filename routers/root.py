"""The service itself: its name with links, and its health."""

from fastapi import APIRouter, Request

from routers.dependencies import NowDep, RegistryDep
from routers.problems import problems
from schemas.root import Health, ServiceInfo
from services.forecasts.by_symbol import timestamp
from services.health import health

router = APIRouter(tags=["health"])


@router.get("/", summary="What this is", responses=problems())
def root(request: Request, now: NowDep) -> ServiceInfo:
    """Name, version and where to go from here."""
    return ServiceInfo(service=request.app.title, version=request.app.version, timestamp=timestamp(now))


@router.head("/health", include_in_schema=False)
@router.get("/health", summary="Can it forecast?", responses=problems())
def healthy(registry: RegistryDep, now: NowDep) -> Health:
    """Answer 200 also when degraded: models other than the default may still answer. The reasons say what is wrong."""
    return health(registry, now)
