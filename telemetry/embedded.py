"""Measurements on AWS Lambda: CloudWatch's embedded metric format, a line of the log per event."""

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from telemetry.measures import (
    COLD_STARTS,
    MODEL_CACHE,
    PREDICTIONS,
    REQUEST_SECONDS,
    REQUESTS,
    TRAINING_SECONDS,
    TRAININGS,
    Metric,
)


class _Sent(NamedTuple):
    """A metric of CloudWatch, the share of a measurement's series it takes, and its scale."""

    name: str
    unit: MetricUnit
    takes: Callable[[Mapping[str, str]], bool]
    scale: float = 1.0


def _every(_: Mapping[str, str]) -> bool:
    return True


# A metric of CloudWatch costs money per series: these few carry no labels.
SENT: Mapping[Metric, tuple[_Sent, ...]] = {
    REQUESTS: (
        _Sent("Requests", MetricUnit.Count, _every),
        _Sent("RequestErrors", MetricUnit.Count, lambda labels: labels["status"] >= "500"),
    ),
    REQUEST_SECONDS: (_Sent("RequestLatency", MetricUnit.Milliseconds, _every, 1000),),
    PREDICTIONS: (_Sent("Predictions", MetricUnit.Count, _every),),
    MODEL_CACHE: (
        _Sent("ModelCacheHits", MetricUnit.Count, lambda labels: labels["outcome"] == "hit"),
        _Sent("ModelCacheMisses", MetricUnit.Count, lambda labels: labels["outcome"] == "miss"),
    ),
    COLD_STARTS: (_Sent("ColdStarts", MetricUnit.Count, _every),),
    TRAINING_SECONDS: (_Sent("TrainingSeconds", MetricUnit.Seconds, _every),),
    TRAININGS: (_Sent("TrainingsFailed", MetricUnit.Count, lambda labels: labels["state"] == "failed"),),
}


class EmbeddedMeter:
    """Collects what one event measures until ``flush`` writes it to standard output, where CloudWatch reads it.

    Namespace and service are read by the library itself, from POWERTOOLS_METRICS_NAMESPACE and
    POWERTOOLS_SERVICE_NAME.
    """

    def __init__(self) -> None:
        self._metrics = EphemeralMetrics()
        self._lock = threading.Lock()  # routes run in threads

    def record(self, measure: Metric, value: float = 1.0, **labels: str) -> None:
        """Take a measurement; what CloudWatch is not told of is dropped."""
        for sent in SENT.get(measure, ()):
            if sent.takes(labels):
                with self._lock:
                    self._metrics.add_metric(sent.name, sent.unit, value * sent.scale)

    def flush(self) -> None:
        """Write what was collected, where there is something."""
        with self._lock:
            if self._metrics.metric_set:
                self._metrics.flush_metrics()
