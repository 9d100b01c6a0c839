"""Summaries of the running server and of a model, with the fields of legacy contract v2."""

import os
from datetime import datetime

from schemas.card import ModelCard
from schemas.monitoring import DataSplits, ModelInfo, ModelStats, Stats, SystemStats, TrafficStats
from services.health import HealthCheck
from services.storage.registry import ModelRegistry
from telemetry.measures import ACTIVE_REQUESTS, PREDICTIONS, REQUESTS, Meter, ScrapedMeter
from telemetry.system import SystemUsage

MB = 1024 * 1024


def stats(health_check: HealthCheck, registry: ModelRegistry, meter: Meter, usage: SystemUsage, now: datetime) -> Stats:
    card, _ = health_check.default_model(registry)
    return Stats(
        timestamp=now,
        system=_system(meter, usage, now),
        traffic=_traffic(meter) if isinstance(meter, ScrapedMeter) else None,
        model=ModelStats(
            loaded=card is not None,
            model_id=None if card is None else card.model_id,
            load_time_ms=None if card is None else _load_time_ms(card, registry),
        ),
    )


def model_info(name: str, registry: ModelRegistry) -> ModelInfo:
    """A summary of a model, which is loaded for its load time.

    Raises:
        ModelNotFound: no model has the name.
        ArtifactCorrupt, ArtifactTooNew: it cannot be loaded.
    """
    card = registry.card(name)
    registry.load(card)
    first = card.series[0]
    first_session = min(series.data.first_session for series in card.series)
    return ModelInfo(
        model_id=card.model_id,
        symbol=first.ticker if len(card.series) == 1 else None,
        symbols=card.tickers,
        architecture=card.model,
        look_back_days=card.lookback,
        horizon=card.horizon,
        target_column=card.target_column,
        first_session=first_session,
        last_session=card.last_session,
        training_period=f"{first_session} → {card.last_session}",
        data_splits=DataSplits(
            train=first.split.fit,
            validation=first.split.early_stopping,
            calibration=first.split.calibration,
            test=first.split.test,
        ),
        hyperparameters=card.hyperparameters,
        metrics_test=card.test[0].model,
        test=card.test[0],
        calibration=card.calibration,
        created_at=card.created_at,
        libraries=card.libraries,
        warnings=card.warnings,
        model_load_time_ms=_load_time_ms(card, registry) or 0.0,
        **_scaling(card),
    )


def _scaling(card: ModelCard) -> dict[str, str]:
    """How prices become inputs, and outputs prices, as the three texts of legacy contract v2."""
    if card.model == "ratio_lstm":
        normalization, target = "each window divided by its first price", "the next close as a ratio to that price"
        return {"normalization": normalization, "target_description": target, "reconstruction": "ratio * first price"}
    if card.model == "price_lstm":
        normalization = "each window between its lowest and its highest price"
        target = "the next close on that scale"
        return {"normalization": normalization, "target_description": target, "reconstruction": "low + value * range"}
    return {
        "normalization": "log returns in units of each window's own volatility",
        "target_description": f"distribution of the log return over 1 to {card.horizon} sessions",
        "reconstruction": "last close * exp(log return)",
    }


def _system(meter: Meter, usage: SystemUsage, now: datetime) -> SystemStats:
    process_ids = meter.process_ids if isinstance(meter, ScrapedMeter) else (os.getpid(),)
    taken = usage.read(now, process_ids)
    return SystemStats(
        cpu_usage_percent=round(taken.cpu_percent, 1),
        memory_used_mb=round(taken.memory_bytes / MB, 2),
        memory_available_mb=round(taken.available_bytes / MB, 2),
        uptime_s=round(taken.uptime_s, 1),
        pid=os.getpid(),
        processes=len(process_ids),
    )


def _traffic(meter: ScrapedMeter) -> TrafficStats:
    return TrafficStats(
        requests=round(meter.total(REQUESTS)),
        active_requests=round(meter.total(ACTIVE_REQUESTS)),
        predictions=round(meter.total(PREDICTIONS)),
    )


def _load_time_ms(card: ModelCard, registry: ModelRegistry) -> float | None:
    seconds = registry.load_seconds(card)
    return None if seconds is None else round(1000 * seconds, 3)
