"""Metrics on AWS Lambda: one log line per event in CloudWatch's embedded metric format."""

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from telemetry.measures import (
    COLD_STARTS,
    COVERAGE_DEVIATION,
    DRIFT,
    MODEL_CACHE,
    PREDICTIONS,
    PUBLICATIONS,
    REQUEST_SECONDS,
    REQUESTS,
    SCORING_RUNS,
    SKILL_Z,
    TRAINING_SECONDS,
    TRAININGS,
    UNSCORED_RATIO,
    Metric,
)


class _CloudWatchMetric(NamedTuple):
    name: str
    unit: MetricUnit = MetricUnit.Count
    scale: float = 1.0
    includes: Callable[[Mapping[str, str]], bool] = lambda _: True


# CloudWatch charges for each series, so these few have no labels.
PUBLISHED: Mapping[Metric, tuple[_CloudWatchMetric, ...]] = {
    REQUESTS: (
        _CloudWatchMetric("Requests"),
        _CloudWatchMetric("RequestErrors", includes=lambda labels: labels["status"] >= "500"),
    ),
    REQUEST_SECONDS: (_CloudWatchMetric("RequestLatency", MetricUnit.Milliseconds, 1000),),
    PREDICTIONS: (_CloudWatchMetric("Predictions"),),
    MODEL_CACHE: (
        _CloudWatchMetric("ModelCacheHits", includes=lambda labels: labels["outcome"] == "hit"),
        _CloudWatchMetric("ModelCacheMisses", includes=lambda labels: labels["outcome"] == "miss"),
    ),
    COLD_STARTS: (_CloudWatchMetric("ColdStarts"),),
    TRAINING_SECONDS: (_CloudWatchMetric("TrainingSeconds", MetricUnit.Seconds),),
    TRAININGS: (_CloudWatchMetric("TrainingsFailed", includes=lambda labels: labels["state"] == "failed"),),
    SCORING_RUNS: (_CloudWatchMetric("ScoringRuns"),),
    PUBLICATIONS: (_CloudWatchMetric("ForecastPublications"),),
    COVERAGE_DEVIATION: (
        _CloudWatchMetric("Coverage80Deviation", MetricUnit.NoUnit, includes=lambda labels: labels["level"] == "0.8"),
        _CloudWatchMetric("Coverage95Deviation", MetricUnit.NoUnit, includes=lambda labels: labels["level"] == "0.95"),
    ),
    SKILL_Z: (
        _CloudWatchMetric("SkillZ", MetricUnit.NoUnit, includes=lambda labels: labels["measure"] == "mae"),
        _CloudWatchMetric("CrpsSkillZ", MetricUnit.NoUnit, includes=lambda labels: labels["measure"] == "crps"),
    ),
    DRIFT: (_CloudWatchMetric("TickersDrifted", includes=lambda labels: labels["status"] == "drifted"),),
    UNSCORED_RATIO: (_CloudWatchMetric("SessionsUnscored", MetricUnit.NoUnit),),
}


class EmbeddedMeter:
    """Collects the measurements of one event; ``flush`` prints them for CloudWatch.

    The library reads namespace and service from POWERTOOLS_METRICS_NAMESPACE and POWERTOOLS_SERVICE_NAME.
    """

    def __init__(self) -> None:
        self._metrics = EphemeralMetrics()
        self._lock = threading.Lock()  # routes run in threads

    def record(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        for published in PUBLISHED.get(metric, ()):
            if published.includes(labels):
                with self._lock:
                    self._metrics.add_metric(published.name, published.unit, value * published.scale)

    def flush(self) -> None:
        with self._lock:
            if self._metrics.metric_set:
                self._metrics.flush_metrics()
