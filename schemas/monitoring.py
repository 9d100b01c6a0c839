"""Answers of legacy contract v2's monitoring routes: the running server and its model in short."""

from datetime import date, datetime

from pydantic import Field, JsonValue

from schemas.accuracy import PointAccuracy, StepReport
from schemas.card import Block
from schemas.common import Document, ModelId, Ticker, Timestamp
from schemas.train import CalibrationKind, ModelName, TargetColumn


class SystemStats(Document):
    """Usage of the machine by the server's processes."""

    cpu_usage_percent: float = Field(description="Since the last request for it; 100 is one core.")
    memory_used_mb: float
    memory_available_mb: float
    uptime_s: float
    pid: int = Field(description="Of the process that answers.")
    processes: int


class TrafficStats(Document):
    """Requests since the server began."""

    requests: int
    active_requests: int = Field(description="This one included.")
    predictions: int


class ModelStats(Document):
    """The default model."""

    loaded: bool
    model_id: ModelId | None
    load_time_ms: float | None


class MonitoringEndpoints(Document):
    """Where to read more."""

    prometheus_metrics: str = "/metrics"
    model_info: str = "/monitoring/model/info"
    health: str = "/health"


class Stats(Document):
    """The server at a glance."""

    timestamp: Timestamp
    system: SystemStats
    traffic: TrafficStats | None = Field(description="Null where metrics go elsewhere, as on Lambda.")
    model: ModelStats
    monitoring_endpoints: MonitoringEndpoints = MonitoringEndpoints()


class DataSplits(Document):
    """The first series' consecutive blocks; ``validation`` is what stopped the fit early."""

    train: Block | None
    validation: Block | None
    calibration: Block | None
    test: Block | None


class ModelInfo(Document):
    """A model in short; ``GET /models/{model_id}`` has all of it."""

    model_id: ModelId
    symbol: Ticker | None = Field(description="The ticker it was fitted on; null for several.")
    symbols: tuple[Ticker, ...]
    architecture: ModelName
    look_back_days: int
    horizon: int
    target_column: TargetColumn
    first_session: date
    last_session: date
    training_period: str
    data_splits: DataSplits
    hyperparameters: dict[str, JsonValue]
    metrics_test: PointAccuracy
    test: StepReport = Field(description="The same with persistence, skill and coverage; one step ahead.")
    calibration: CalibrationKind
    created_at: datetime
    libraries: dict[str, str]
    warnings: tuple[str, ...]
    model_load_time_ms: float
    normalization: str = Field(description="How prices are scaled for the network.")
    target_description: str = Field(description="The target of the network.")
    reconstruction: str = Field(description="How the output of the network becomes a price.")
    tf_version: None = Field(default=None, description="Always null: there is no TensorFlow here.")
