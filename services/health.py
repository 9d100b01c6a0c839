"""Whether the model that answers by default can."""

from datetime import datetime

from errors import AppError
from schemas.root import Health, HealthReason
from services.forecasts.by_symbol import timestamp
from services.storage.registry import DEFAULT, ModelRegistry


def health(registry: ModelRegistry, now: datetime) -> Health:
    """``ok`` when the default model was really loaded; ``degraded``, with the reason, when it could not be.

    Loading costs something once: afterwards the model comes from the registry's cache.
    """
    try:
        card = registry.card(DEFAULT)
        registry.load(card)
    except AppError as error:
        reason = HealthReason(code=error.code, detail=error.message)
        return Health(status="degraded", model_loaded=False, model_id=None, reasons=(reason,), timestamp=timestamp(now))
    return Health(status="ok", model_loaded=True, model_id=card.model_id, reasons=(), timestamp=timestamp(now))
