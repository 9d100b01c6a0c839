"""The service itself: name, links and health."""

from typing import Literal

from pydantic import Field

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
    """What does not work: code and detail of the error that affected requests get."""

    code: str = Field(description="prices_stale, prices_unavailable, or an error code of docs/errors.md.")
    detail: str = Field(description="What happened, for people.")


class Health(Document):
    """``degraded``: something does not work, but some model can still forecast; ``unavailable``: none can."""

    status: Literal["ok", "degraded", "unavailable"]
    model_loaded: bool = Field(description="Whether the default model is loaded.")
    model_id: ModelId | None = Field(description="Of the default model; null if it cannot be loaded.")
    reasons: tuple[HealthReason, ...] = Field(description="What does not work; empty if the status is ok.")
    timestamp: Timestamp
