"""What was measured, for Prometheus; never behind the API key, which a scraper would have to be trusted with."""

from typing import Any

from fastapi import APIRouter, Request, Response

from errors import MetricsNotExposed
from routers.dependencies import RuntimeDep
from routers.problems import problems
from telemetry.measures import CPU_PERCENT, MEMORY_BYTES, ScrapedMeter

router = APIRouter(tags=["monitoring"])

TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get(
    "/metrics",
    summary="Measurements for Prometheus",
    response_class=Response,
    responses=TEXT | problems(MetricsNotExposed),
)
def metrics(
    request: Request,
    runtime: RuntimeDep,
) -> Response:
    """Every measurement since the start, as text or OpenMetrics, whichever `Accept` asks for."""
    if not isinstance(runtime.meter, ScrapedMeter):
        raise MetricsNotExposed("this server writes its measurements to its log, as CloudWatch embedded metrics")
    runtime.health_check.default_model(runtime.registry)
    taken = runtime.system_usage.read(runtime.clock(), runtime.meter.process_ids)
    runtime.meter.record(CPU_PERCENT, taken.cpu_percent)
    runtime.meter.record(MEMORY_BYTES, taken.memory_bytes)
    exposed = runtime.meter.exposition(request.headers.get("Accept", ""))
    return Response(exposed.content, headers={"Content-Type": exposed.media_type, "Cache-Control": "no-store"})
