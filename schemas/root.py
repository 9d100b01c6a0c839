"""What the service says of itself: its name with links, and its health."""

from typing import Literal

from schemas.common import Document, ModelId, Timestamp


class Links(Document):
    """Where to go from here."""

    docs: str = "/docs"
    redoc: str = "/redoc"
    openapi: str = "/openapi.json"
    health: str = "/health"
    up: str = "/up"
    stats: str = "/monitoring/stats"
    models: str = "/models"
    metrics: str = "/metrics"
    model_info: str = "/monitoring/model/info"


class ServiceInfo(Document):
    """The service by name."""

    service: str
    version: str
    status: Literal["running"] = "running"
    model: Literal["default"] = "default"
    links: Links = Links()
    timestamp: Timestamp


class HealthReason(Document):
    """Something that does not work, as a request that needs it would be told."""

    code: str
    detail: str


class Health(Document):
    """``degraded`` when something ails and something can still be answered, ``unavailable`` when nothing can."""

    status: Literal["ok", "degraded", "unavailable"]
    model_loaded: bool
    model_id: ModelId | None
    reasons: tuple[HealthReason, ...]
    timestamp: Timestamp
