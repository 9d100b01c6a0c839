"""Everything that is measured, by name, and the protocol of who takes the measurements."""

from dataclasses import dataclass
from typing import Literal, Protocol

# Milliseconds of a cached answer to minutes of a training that is waited for.
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
INFERENCE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
TRAINING_BUCKETS_S = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900)


@dataclass(frozen=True)
class Measure:
    """One thing that is measured.

    Attributes:
        name: as Prometheus knows it.
        kind: counters only grow, gauges are set, histograms collect single values.
        help: what it is.
        labels: what tells its series apart; every label has few values, known in advance.
        buckets: upper bounds of a histogram.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUESTS = Measure(
    "http_requests_total",
    "counter",
    "Requests answered, by method, route template and status; an unexpected failure is a 500.",
    ("method", "endpoint", "status"),
)
REQUEST_SECONDS = Measure(
    "http_request_duration_seconds",
    "histogram",
    "Seconds from a request to the end of its answer.",
    ("method", "endpoint"),
    REQUEST_BUCKETS_S,
)
ACTIVE_REQUESTS = Measure("http_active_requests", "gauge", "Requests being answered at the moment.")
PREDICTIONS = Measure("predictions_total", "counter", "Forecasts answered: manual, live, forecast or batch.", ("type",))
PREDICTION_SECONDS = Measure(
    "prediction_duration_seconds", "histogram", "Seconds the model took.", ("type",), INFERENCE_BUCKETS_S
)
MODEL_CACHE = Measure(
    "model_cache_requests_total", "counter", "Models asked of the process's cache: hit or miss.", ("outcome",)
)
TRAININGS = Measure("training_jobs_total", "counter", "Trainings that ended, by how.", ("state",))
TRAINING_SECONDS = Measure(
    "training_duration_seconds", "histogram", "Seconds from claim to end of a training.", (), TRAINING_BUCKETS_S
)
COLD_STARTS = Measure("cold_starts_total", "counter", "Lambda instances that answered their first event.")


class Meter(Protocol):
    """Takes measurements; never fails, and costs microseconds."""

    def record(self, measure: Measure, value: float = 1.0, **labels: str) -> None:
        """Add to a counter, set a gauge, or put a value into a histogram."""
        ...

    def flush(self) -> None:
        """Hand over what was collected, where that does not happen by itself."""
        ...


class NoMeter:
    """Measures nothing."""

    def record(self, measure: Measure, value: float = 1.0, **labels: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


NO_METER = NoMeter()
