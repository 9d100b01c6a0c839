"""Answers of legacy contract v2's monitoring routes: summaries of the running server and of a model."""

from datetime import date, datetime

from pydantic import Field, JsonValue

from schemas.accuracy import PointAccuracy, StepReport
from schemas.card import Block
from schemas.common import Document, ModelId, Ticker, Timestamp
from schemas.train import CalibrationKind, ModelName, TargetColumn


class SystemStats(Document):
    """Usage of the machine by the server's processes."""

    cpu_usage_percent: float = Field(
        description="CPU use since the last request of this route, in percent; 100 is one core."
    )
    memory_used_mb: float = Field(description="Resident memory of the processes, in MiB.")
    memory_available_mb: float = Field(description="Free on the machine, in MiB.")
    uptime_s: float = Field(description="Seconds since the oldest process started.")
    pid: int = Field(description="Id of the process that answers.")
    processes: int = Field(description="Processes counted.")


class TrafficStats(Document):
    """Requests since the server began."""

    requests: int
    active_requests: int = Field(description="Requests in progress, this one included.")
    predictions: int = Field(description="Forecasts made.")


class ModelStats(Document):
    """The default model."""

    loaded: bool
    model_id: ModelId | None = Field(description="Null if it cannot be loaded.")
    load_time_ms: float | None = Field(description="Milliseconds that loading took; null if it is not loaded.")


class MonitoringEndpoints(Document):
    """Where to read more."""

    prometheus_metrics: str = "/metrics"
    model_info: str = "/monitoring/model/info"
    health: str = "/health"


class Stats(Document):
    """A summary of the server."""

    timestamp: Timestamp
    system: SystemStats
    traffic: TrafficStats | None = Field(description="Null if the server has no metrics to read, as on Lambda.")
    model: ModelStats
    monitoring_endpoints: MonitoringEndpoints = MonitoringEndpoints()


class DataSplits(Document):
    """The consecutive blocks of the first ticker; ``validation`` is the early-stopping block."""

    train: Block | None
    validation: Block | None
    calibration: Block | None
    test: Block | None


class ModelInfo(Document):
    """A summary of a model; ``GET /models/{model_id}`` returns the whole card."""

    model_id: ModelId
    symbol: Ticker | None = Field(description="The ticker it was fitted on; null for several.")
    symbols: tuple[Ticker, ...] = Field(description="All tickers it was fitted on.")
    architecture: ModelName = Field(description="Kind of model.")
    look_back_days: int = Field(description="Lookback, in sessions.")
    horizon: int = Field(description="Sessions that the model forecasts at most.")
    target_column: TargetColumn = Field(description="The price that is forecast.")
    first_session: date
    last_session: date
    training_period: str = Field(description="First and last session, as text.")
    data_splits: DataSplits
    hyperparameters: dict[str, JsonValue]
    metrics_test: PointAccuracy = Field(description="Errors one step ahead on the test part.")
    test: StepReport = Field(description="The same with persistence, skill and coverage; one step ahead.")
    calibration: CalibrationKind = Field(description="Whether intervals adapt to recent misses.")
    created_at: datetime = Field(description="Time of the training request, in UTC.")
    libraries: dict[str, str]
    warnings: tuple[str, ...]
    model_load_time_ms: float = Field(description="Milliseconds that loading took.")
    normalization: str = Field(description="How prices are scaled for the network.")
    target_description: str = Field(description="The target of the network.")
    reconstruction: str = Field(description="How the output of the network becomes a price.")
    tf_version: None = Field(default=None, description="Always null: there is no TensorFlow here.")
