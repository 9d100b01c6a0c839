"""Legacy contract v2's monitoring routes: summaries of the server and of a model, as JSON."""

from fastapi import APIRouter

from routers.dependencies import RuntimeDep
from routers.guard import GuardedRoute
from routers.problems import MODEL_PROBLEMS, problems
from schemas.common import ModelOrAlias
from schemas.monitoring import ModelInfo, Stats
from services.status import model_info, stats
from services.storage.registry import DEFAULT

router = APIRouter(route_class=GuardedRoute, prefix="/monitoring", tags=["monitoring"])


@router.get("/stats", summary="Summary of the server", responses=problems())
def server_stats(runtime: RuntimeDep) -> Stats:
    """CPU, memory, traffic and the default model; Prometheus reads `/metrics` instead."""
    return stats(runtime.health_check, runtime.registry, runtime.meter, runtime.system_usage, runtime.clock())


@router.get("/model/info", summary="Summary of a model", responses=problems(*MODEL_PROBLEMS))
def info(
    runtime: RuntimeDep,
    model_id: ModelOrAlias = DEFAULT,
) -> ModelInfo:
    """Prices, blocks and accuracy of the default model, or of another one."""
    return model_info(model_id, runtime.registry)
