"""Metrics for Prometheus. The route needs no API key, so that no scraper has to have it."""

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
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=TEXT | problems(MetricsNotExposed),
)
def metrics(
    request: Request,
    runtime: RuntimeDep,
) -> Response:
    """All metrics since the start, as OpenMetrics if `Accept` asks for it, else as text."""
    if not isinstance(runtime.meter, ScrapedMeter):
        raise MetricsNotExposed("this server writes its metrics to its log for CloudWatch and has none to scrape")
    runtime.health_check.default_model(runtime.registry)
    taken = runtime.system_usage.read(runtime.clock(), runtime.meter.process_ids)
    runtime.meter.record(CPU_PERCENT, taken.cpu_percent)
    runtime.meter.record(MEMORY_BYTES, taken.memory_bytes)
    exposed = runtime.meter.exposition(request.headers.get("Accept", ""))
    return Response(exposed.content, headers={"Content-Type": exposed.media_type, "Cache-Control": "no-store"})
