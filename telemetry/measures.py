"""The metrics, and the protocols of the meters that record them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

# From milliseconds for a cached response to minutes for a request that waits for its training.
REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
INFERENCE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)
TRAINING_BUCKETS_S = (1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 900)
FETCH_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
STORE_BUCKETS_S = (0.0001, 0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10, 30)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: the Prometheus name.
        kind: a counter only grows, a gauge is set, a histogram collects values.
        help: the description on ``/metrics``.
        labels: label names; each has few values, known in advance.
        buckets: upper bounds of a histogram.
        initial_labels: label values of the series that start at 0, so that the first increment shows.
        multiprocess_mode: how one gauge is made of those of several worker processes: their sum or the newest.
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
    "Requests by method, route template and status; an unexpected failure counts as 500.",
    ("method", "endpoint", "status"),
)
REQUEST_SECONDS = Metric(
    "http_request_duration_seconds",
    "histogram",
    "Seconds from the start of a request to the end of its response.",
    ("method", "endpoint"),
    REQUEST_BUCKETS_S,
)
REQUESTS_BY_KEY = Metric(
    "http_requests_by_key_total",
    "counter",
    "Requests by the name of the API key and status, on servers with keys.",
    ("key", "status"),
)
CPU_BY_KEY = Metric(
    "http_cpu_seconds_by_key_total",
    "counter",
    "CPU seconds of requests by the name of the API key, on servers with keys.",
    ("key",),
)
ACTIVE_REQUESTS = Metric("http_active_requests", "gauge", "Requests in progress.", multiprocess_mode="sum")
PREDICTIONS = Metric(
    "predictions_total",
    "counter",
    "Forecasts by type: manual, live, forecast or batch.",
    ("type",),
    initial_labels=(("manual",), ("live",), ("forecast",), ("batch",)),
)
PREDICTION_SECONDS = Metric(
    "prediction_duration_seconds", "histogram", "Seconds of model inference.", ("type",), INFERENCE_BUCKETS_S
)
MODEL_CACHE = Metric(
    "model_cache_requests_total",
    "counter",
    "Lookups in the model cache: hit or miss.",
    ("outcome",),
    initial_labels=(("hit",), ("miss",)),
)
TRAININGS = Metric(
    "training_jobs_total",
    "counter",
    "Ended trainings by state: succeeded, failed, cancelled or lost.",
    ("state",),
    initial_labels=(("succeeded",), ("failed",), ("cancelled",), ("lost",)),
)
TRAINING_SECONDS = Metric(
    "training_duration_seconds",
    "histogram",
    "Seconds from the claim of a training job to its end.",
    (),
    TRAINING_BUCKETS_S,
)
JOBS_RUNNING = Metric("training_jobs_running", "gauge", "Trainings that this server runs.", multiprocess_mode="sum")
JOBS_WAITING = Metric("training_jobs_waiting", "gauge", "Trainings in this server's queue.", multiprocess_mode="sum")
MODEL_LOADED = Metric("model_loaded", "gauge", "1 if the default model is loaded, else 0.")
PRICE_FETCHES = Metric(
    "price_fetches_total",
    "counter",
    "Price downloads by source; outcome is ok or an error code.",
    ("source", "outcome"),
)
PRICE_FETCH_SECONDS = Metric(
    "price_fetch_duration_seconds",
    "histogram",
    "Seconds of a price download, retries included.",
    ("source",),
    FETCH_BUCKETS_S,
)
PRICE_CACHE = Metric(
    "price_cache_requests_total",
    "counter",
    "Lookups in the price cache: hit, miss (downloaded or unavailable) or stale (expired but served).",
    ("outcome",),
    initial_labels=(("hit",), ("miss",), ("stale",)),
)
PRICES_SERVED = Metric(
    "price_histories_served_total",
    "counter",
    "Price histories used for forecasts: fresh, or stale if a newer session should exist.",
    ("freshness",),
    initial_labels=(("fresh",), ("stale",)),
)
PRICE_AGE = Metric(
    "price_age_seconds",
    "gauge",
    "Seconds since the end (UTC) of the newest session in the last history served.",
)
STORE_OPERATIONS = Metric(
    "store_operations_total",
    "counter",
    "Store operations; outcome is ok, absent (no such key) or an error code.",
    ("operation", "outcome"),
    initial_labels=tuple(
        (operation, outcome)
        for operation in ("get", "put", "create", "replace", "exists", "list", "delete")
        for outcome in ("ok", "store_unavailable")
    ),
)
STORE_SECONDS = Metric(
    "store_operation_duration_seconds",
    "histogram",
    "Seconds of a store operation.",
    ("operation",),
    STORE_BUCKETS_S,
)
DOCUMENTS_UNREADABLE = Metric(
    "documents_unreadable_total",
    "counter",
    "Stored documents that a list left out because they cannot be read, each time.",
)
FORECASTS_LOGGED = Metric(
    "forecasts_logged_total",
    "counter",
    "Forecasts logged for scoring: written, dropped or failed.",
    ("outcome",),
    initial_labels=(("written",), ("dropped",), ("failed",)),
)
FORECASTS_SCORED = Metric("forecasts_scored_total", "counter", "Forecasts compared with the actual close.", ("kind",))
REALISED_MAPE = Metric(
    "forecast_realised_mape",
    "gauge",
    "Mean absolute percentage error of served forecasts as a fraction: model and persistence.",
    ("kind", "forecast"),
)
REALISED_COVERAGE = Metric(
    "forecast_realised_coverage",
    "gauge",
    "Share of closes inside the served intervals, by coverage level.",
    ("kind", "level"),
)
REALISED_FORECASTS = Metric(
    "forecast_realised_forecasts",
    "gauge",
    "Number of forecasts behind forecast_realised_mape and forecast_realised_coverage.",
    ("kind",),
)
DRIFT = Metric("forecast_drift", "gauge", "Tickers by drift status: ok, warning or drifted.", ("status",))
COVERAGE_Z = Metric(
    "forecast_coverage_z",
    "gauge",
    "Realised coverage minus its level, in standard errors; one-step forecasts of 90 days, all kinds.",
    ("level",),
)
COVERAGE_DEVIATION = Metric(
    "forecast_coverage_deviation",
    "gauge",
    "Distance of realised coverage from its level, all kinds; 0 while it is within three standard errors.",
    ("level",),
)
SKILL = Metric(
    "forecast_realised_skill",
    "gauge",
    "1 - error / error of the no-change forecast; one-step forecasts of 90 days, all kinds; measure is mae or crps.",
    ("measure",),
)
SKILL_Z = Metric("forecast_realised_skill_z", "gauge", "Realised skill in standard errors.", ("measure",))
UNSCORED_RATIO = Metric(
    "forecast_sessions_unscored_ratio",
    "gauge",
    "Share of the sessions of the last 14 days that should have scores and have none.",
)
SCORING_RUNS = Metric("scoring_runs_total", "counter", "Finished scorings.")
SCORING_FINISHED = Metric(
    "scoring_finished_timestamp_seconds",
    "gauge",
    "When the last scoring finished, in Unix seconds; 0 before the first.",
)
FORECASTS_PUBLISHED = Metric(
    "forecasts_published",
    "gauge",
    "Tickers of the last nightly run that this server did: with a forecast, or failed.",
    ("outcome",),
)
PUBLICATIONS = Metric("forecast_publications_total", "counter", "Nightly runs that have published their forecasts.")
FORECASTS_PUBLISHED_AT = Metric(
    "forecasts_published_timestamp_seconds",
    "gauge",
    "When the latest forecasts were published, in Unix seconds; 0 until this server publishes or reads some.",
)
WEBHOOK_ATTEMPTS = Metric(
    "webhook_attempts_total",
    "counter",
    "Attempts of this server to deliver a webhook: delivered, failed (and repeated later) or given_up.",
    ("outcome",),
    initial_labels=(("delivered",), ("failed",), ("given_up",)),
)
WEBHOOKS_FAILING = Metric(
    "webhooks_failing",
    "gauge",
    "Webhooks that are not delivered after at least one attempt, at this server's last look, once a minute.",
)
UNREADABLE_FILES = Metric(
    "metrics_files_unreadable",
    "gauge",
    "Files of worker processes that this scrape could not read and left out.",
)
CPU_PERCENT = Metric("process_cpu_usage_percent", "gauge", "CPU use since the last scrape; 100 is one core.")
MEMORY_BYTES = Metric("process_memory_usage_bytes", "gauge", "Resident memory.")
BUILD_INFO = Metric(
    "build_info", "gauge", "Always 1; version and Python version are in the labels.", ("version", "python")
)
COLD_STARTS = Metric("cold_starts_total", "counter", "Cold starts of Lambda instances.")

METRICS = tuple(value for value in vars().values() if isinstance(value, Metric))


class Meter(Protocol):
    """Records measurements within microseconds and never raises."""

    def record(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        """Increment a counter, set a gauge or observe a value in a histogram."""

    def flush(self) -> None:
        """Write buffered measurements, if the meter buffers."""


class Exposition(NamedTuple):
    """All metrics in a format that a scraper reads."""

    content: bytes
    media_type: str


@runtime_checkable
class ScrapedMeter(Meter, Protocol):
    """A meter that accumulates measurements until they are scraped."""

    @property
    def process_ids(self) -> tuple[int, ...]:
        """The live processes that record into this meter."""

    def exposition(self, accept: str) -> Exposition:
        """The metrics as OpenMetrics if the ``Accept`` header names it, else as plain text."""

    def total(self, metric: Metric) -> float:
        """The sum over all series of a counter or a gauge."""


class NoMeter:
    """Discards every measurement."""

    def record(self, metric: Metric, value: float = 1.0, **labels: str) -> None:
        pass

    def flush(self) -> None:
        pass


NO_METER = NoMeter()
