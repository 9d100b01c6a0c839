"""The service itself: name, links and health."""

from typing import Literal

from schemas.common import Document, ModelId, Timestamp


class Links(Document):
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
    service: str
    version: str
    status: Literal["running"] = "running"
    model: Literal["default"] = "default"
    links: Links = Links()
    timestamp: Timestamp


class HealthReason(Document):
    """What does not work, with the code and detail of the error that a request needing it gets."""

    code: str
    detail: str


class Health(Document):
    """``degraded``: something does not work, but some model can still forecast; ``unavailable``: none can."""

    status: Literal["ok", "degraded", "unavailable"]
    model_loaded: bool
    model_id: ModelId | None
    reasons: tuple[HealthReason, ...]
    timestamp: Timestamp
