"""Everything that is measured, by name, and the protocol of who takes the measurements."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

# Milliseconds of a cached answer to minutes of a training that is waited for.
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
INFERENCE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
TRAINING_BUCKETS_S = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900)
FETCH_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
STORE_BUCKETS_S = (0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10, 30)


@dataclass(frozen=True)
class Metric:
    """One thing that is measured.

    Attributes:
        name: as Prometheus knows it.
        kind: counters only grow, gauges are set, histograms collect single values.
        help: what it is.
        labels: what tells its series apart; every label has few values, known in advance.
        buckets: upper bounds of a histogram.
        initial_labels: labels of the series that are 0 from the start, so that a first step from 0 is visible.
        multiprocess_mode: how a gauge set by several processes of one server becomes one: their sum or the newest.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    initial_labels: tuple[tuple[str, ...], ...] = ()
    multiprocess_mode: Literal["sum", "newest"] = "newest"


REQUESTS = Metric(
    "http_requests_total",
    "counter",
    "Requests answered, by method, route template and status; an unexpected failure is a 500.",
    ("method", "endpoint", "status"),
)
REQUEST_SECONDS = Metric(
    "http_request_duration_seconds",
    "histogram",
    "Seconds from a request to the end of its answer.",
    ("method", "endpoint"),
    REQUEST_BUCKETS_S,
)
ACTIVE_REQUESTS = Metric(
    "http_active_requests", "gauge", "Requests being answered at the moment.", multiprocess_mode="sum"
)
PREDICTIONS = Metric(
    "predictions_total",
    "counter",
    "Forecasts answered: manual, live, forecast or batch.",
    ("type",),
    initial_labels=(("manual",), ("live",), ("forecast",), ("batch",)),
)
PREDICTION_SECONDS = Metric(
    "prediction_duration_seconds", "histogram", "Seconds the model took.", ("type",), INFERENCE_BUCKETS_S
)
MODEL_CACHE = Metric(
    "model_cache_requests_total",
    "counter",
    "Models asked of the process's cache: hit or miss.",
    ("outcome",),
    initial_labels=(("hit",), ("miss",)),
)
TRAININGS = Metric(
    "training_jobs_total",
    "counter",
    "Trainings that ended: succeeded, failed, cancelled or lost.",
    ("state",),
    initial_labels=(("succeeded",), ("failed",), ("cancelled",), ("lost",)),
)
TRAINING_SECONDS = Metric(
    "training_duration_seconds", "histogram", "Seconds from claim to end of a training.", (), TRAINING_BUCKETS_S
)
JOBS_RUNNING = Metric(
    "training_jobs_running", "gauge", "Trainings that this server runs at the moment.", multiprocess_mode="sum"
)
JOBS_WAITING = Metric(
    "training_jobs_waiting", "gauge", "Trainings that wait for their turn on this server.", multiprocess_mode="sum"
)
MODEL_LOADED = Metric("model_loaded", "gauge", "1 where the default model can answer, 0 where it cannot.")
PRICE_FETCHES = Metric(
    "price_fetches_total",
    "counter",
    "Prices asked of a source over the network: ok, or the code of the error.",
    ("source", "outcome"),
)
PRICE_FETCH_SECONDS = Metric(
    "price_fetch_duration_seconds",
    "histogram",
    "Seconds a source took to answer or to fail, its retries included.",
    ("source",),
    FETCH_BUCKETS_S,
)
PRICE_CACHE = Metric(
    "price_cache_requests_total",
    "counter",
    "Histories asked of the price cache: hit, miss (fetched, or unavailable) or stale (served though too old).",
    ("outcome",),
    initial_labels=(("hit",), ("miss",), ("stale",)),
)
PRICES_SERVED = Metric(
    "price_histories_served_total",
    "counter",
    "Price histories that forecasts were made from: fresh, or stale where a newer session should exist.",
    ("freshness",),
    initial_labels=(("fresh",), ("stale",)),
)
PRICE_AGE = Metric(
    "price_age_seconds",
    "gauge",
    "Seconds since the day (UTC) of the newest session was over, in the history that was served last.",
)
STORE_OPERATIONS = Metric(
    "store_operations_total",
    "counter",
    "Operations of the artifact store: ok, absent (nothing is stored there) or the code of the error.",
    ("operation", "outcome"),
    initial_labels=tuple(
        (operation, outcome)
        for operation in ("get", "put", "create", "exists", "list", "delete")
        for outcome in ("ok", "store_unavailable")
    ),
)
STORE_SECONDS = Metric(
    "store_operation_duration_seconds",
    "histogram",
    "Seconds an operation of the artifact store took.",
    ("operation",),
    STORE_BUCKETS_S,
)
FORECASTS_LOGGED = Metric(
    "forecasts_logged_total",
    "counter",
    "Forecasts noted to be scored later: written, dropped or failed.",
    ("outcome",),
    initial_labels=(("written",), ("dropped",), ("failed",)),
)
FORECASTS_SCORED = Metric(
    "forecasts_scored_total", "counter", "Forecasts compared with the close that came.", ("kind",)
)
REALISED_MAPE = Metric(
    "forecast_realised_mape",
    "gauge",
    "Mean absolute percentage error of served forecasts, as a fraction: of the model, and of persistence.",
    ("kind", "forecast"),
)
REALISED_COVERAGE = Metric(
    "forecast_realised_coverage",
    "gauge",
    "Share of closes that lay inside the intervals that were served, by level.",
    ("kind", "level"),
)
REALISED_FORECASTS = Metric(
    "forecast_realised_forecasts", "gauge", "Forecasts that these two figures were formed of.", ("kind",)
)
DRIFT = Metric("forecast_drift", "gauge", "Tickers by drift status: ok, warning or drifted.", ("status",))
CPU_PERCENT = Metric(
    "process_cpu_usage_percent", "gauge", "Processor time used since it was last asked, 100 is one core."
)
MEMORY_BYTES = Metric("process_memory_usage_bytes", "gauge", "Resident memory.")
BUILD_INFO = Metric("build_info", "gauge", "Always 1; the labels tell what runs.", ("version", "python"))
COLD_STARTS = Metric("cold_starts_total", "counter", "Lambda instances that answered their first event.")

METRICS = tuple(measure for measure in vars().values() if isinstance(measure, Metric))
"""Every measure there is, in the order above."""


class Meter(Protocol):
    """Takes measurements; never fails, and costs microseconds."""

    def record(self, measure: Metric, value: float = 1.0, **labels: str) -> None:
        """Add to a counter, set a gauge, or put a value into a histogram."""
        ...

    def flush(self) -> None:
        """Hand over what was collected, where that does not happen by itself."""
        ...


class Exposition(NamedTuple):
    """All that was measured, as a scraper reads it."""

    content: bytes
    media_type: str


@runtime_checkable
class ScrapedMeter(Meter, Protocol):
    """A meter that keeps what it takes, for whoever asks."""

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The processes whose measurements these are."""
        ...

    def exposition(self, accept: str) -> Exposition:
        """Everything measured so far, in a format that the ``Accept`` header names or the plain text."""
        ...

    def total(self, measure: Metric) -> float:
        """The sum over all series of a counter or a gauge."""
        ...


class NoMeter:
    """Measures nothing."""

    def record(self, measure: Metric, value: float = 1.0, **labels: str) -> None:
        """Do nothing."""

    def flush(self) -> None:
        """Do nothing."""


NO_METER = NoMeter()
