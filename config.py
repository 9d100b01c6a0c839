"""The settings: the only reader of the environment."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.access import parse_keys
from services.nightly_tickers import parse_tickers
from telemetry.logs import LogFormat, LogLevel

ROOT = Path(__file__).parent
BUNDLED = ROOT / "models" / "bundled"
_SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"

PriceSourceName = Annotated[
    Literal["yahoo", "sample", "csv", "yahoo,sample"],
    BeforeValidator(lambda name: name.replace(" ", "").lower() if isinstance(name, str) else name),
]
"""``yahoo,sample``: Yahoo; while it is unavailable, forecasts use the sample."""


MIN_RETENTION_DAYS = 90  # forecasts are scored, and accuracy is measured, over that long


def _long_enough(days: int) -> int:
    if 0 < days < MIN_RETENTION_DAYS:
        raise ValueError(f"should be 0 or at least {MIN_RETENTION_DAYS}")
    return days


def _processes(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.strip().lower()
    if text == "auto":
        return n_cores()
    if not text.isdecimal():
        raise ValueError("expected a number of processes, or auto for one per core")
    return int(text)


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _checked_keys(entries: SecretStr) -> SecretStr:
    if not parse_keys(entries.get_secret_value()):
        raise ValueError("expected at least one entry")
    return entries


def _checked_tickers(text: str) -> str:
    parse_tickers(text)
    return text


class Settings(BaseSettings):
    """Read once from the environment and ``.env``; the defaults need no cloud account."""

    model_config = SettingsConfigDict(
        frozen=True, env_file=".env", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    host: Annotated[str, Field(description="Address the server listens on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port the server listens on.")] = 8000
    data_dir: Annotated[Path, Field(description="Folder of models and caches.")] = Path("var")
    price_source: Annotated[PriceSourceName, Field(description="Where daily prices come from.")] = "yahoo"
    price_dir: Annotated[
        Path | None, Field(description="Folder of TICKER.csv files, for PRICE_SOURCE=csv; by default DATA_DIR/prices.")
    ] = None
    price_ttl_s: Annotated[
        float, Field(ge=0, description="Seconds during which downloaded prices are used without a new download.")
    ] = 900
    yahoo_timeout_s: Annotated[float, Field(gt=0, le=60, description="Seconds to wait for one Yahoo answer.")] = 10
    yahoo_attempts: Annotated[int, Field(ge=1, le=10, description="Tries per Yahoo request.")] = 3
    s3_bucket_name: Annotated[
        str | None,
        Field(
            pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
            description="Bucket that stores models, jobs and forecasts; DATA_DIR if unset.",
        ),
    ] = None
    s3_endpoint_url: Annotated[
        str | None, Field(pattern=r"^https?://[^\s/?#]+/?$", description="An S3 server other than AWS.")
    ] = None
    model_path: Annotated[Path, Field(description="Network of the default model (ONNX).")] = BUNDLED / "model.onnx"
    metadata_path: Annotated[
        Path, Field(description="Card of the default model; its other files are in the same folder.")
    ] = BUNDLED / "metadata.json"
    look_back: Annotated[
        int | None, Field(ge=10, le=250, description="Lookback that the default model must have, in sessions.")
    ] = None
    allowed_hosts: Annotated[
        str | None,
        Field(
            pattern=r"^[^\s,/]+(\s*,\s*[^\s,/]+)*$",
            description="Names, separated by commas, that a request's Host may have besides those of this machine.",
        ),
    ] = None
    header_timeout_s: Annotated[
        float, Field(gt=0, le=600, description="Seconds for the head of a request, and for the pause before it.")
    ] = 10
    body_timeout_s: Annotated[float, Field(gt=0, le=600, description="Seconds for the body of a request.")] = 30
    max_connections: Annotated[int, Field(ge=1, le=1_000_000, description="Connections open at once.")] = 1000
    max_active_requests: Annotated[int, Field(ge=1, le=100_000, description="Requests answered at once.")] = 200
    max_requests_at_work: Annotated[
        int, Field(ge=1, le=1000, description="Requests worked on at once while the processor is busy.")
    ] = 8
    web_concurrency: Annotated[
        int,
        BeforeValidator(_processes),
        Field(ge=1, le=256, description="Processes that answer requests: a number, or auto for one per core."),
    ] = 1
    shutdown_timeout_s: Annotated[
        float, Field(ge=3, le=3600, description="Seconds after a signal in which the server ends.")
    ] = 30
    max_body_bytes: Annotated[int, Field(ge=1024, description="Largest request body accepted.")] = 100_000
    api_key: Annotated[
        SecretStr | None,
        Field(min_length=20, description="Key that callers must send as X-API-Key; authentication is off if unset."),
    ] = None
    api_keys: Annotated[
        Annotated[SecretStr, AfterValidator(_checked_keys)] | None,
        Field(description="Further keys, each with its rights, as NAME:RIGHTS:SHA256 with commas between."),
    ] = None
    open: Annotated[
        bool, Field(description="On Lambda, whether to answer without an API key, as behind AWS_IAM: yes or no.")
    ] = False
    retention_days: Annotated[
        int,
        Field(
            ge=0, le=36_500, description="Days after which forecasts, scores, jobs and caches are deleted; 0: never."
        ),
        AfterValidator(_long_enough),
    ] = 400
    nightly_tickers: Annotated[
        Annotated[str, AfterValidator(_checked_tickers)] | None,
        Field(
            description="Tickers that are forecast every night: a list with commas between, universe:NAME, or all that "
            "the price source has."
        ),
    ] = None
    rate_limit_requests: Annotated[
        int | None, Field(ge=1, le=1_000_000, description="Requests per minute of one key or address.")
    ] = None
    rate_limit_cpu_s: Annotated[
        float | None, Field(gt=0, le=60_000, description="CPU seconds per minute of one key or address.")
    ] = None
    webhook_allow_http: Annotated[
        bool, Field(description="Whether webhooks may have an address without TLS, for development: yes or no.")
    ] = False
    webhook_allow_private: Annotated[
        bool,
        Field(
            description="Whether webhooks may have an address in the server's own network, for development: yes or no."
        ),
    ] = False
    log_format: Annotated[
        LogFormat | None, Field(description="json or text; when unset, json on Lambda and text elsewhere.")
    ] = None
    log_level: Annotated[
        Annotated[LogLevel, BeforeValidator(lambda level: level.lower() if isinstance(level, str) else level)],
        Field(description="The least level that is logged: info, warning or error."),
    ] = "info"
    train_wait_s: Annotated[
        float,
        Field(
            ge=0, le=3600, description="Seconds that a training or a long backtest is awaited before the answer is 202."
        ),
    ] = 900
    max_trainings: Annotated[int, Field(ge=1, le=64, description="Models trained at once on this machine.")] = 1
    max_waiting_trainings: Annotated[
        int, Field(ge=0, le=1000, description="Trainings that may wait for their turn on this machine.")
    ] = 4
    max_backtests: Annotated[
        int, Field(ge=1, le=64, description="Long backtests run at once on this machine, next to the trainings.")
    ] = 1
    max_waiting_backtests: Annotated[
        int, Field(ge=0, le=1000, description="Long backtests that may wait for their turn on this machine.")
    ] = 4
    executor: Annotated[
        Literal["local", "ray"] | None,
        Field(
            description="What runs the workers of runs: local processes or ray; by default Lambda where trainings run "
            "on it, else local processes."
        ),
    ] = None
    run_workers: Annotated[int, Field(ge=1, le=1000, description="Workers of a run at once, as local processes.")] = 2
    max_runs: Annotated[int, Field(ge=1, le=64, description="Runs worked on at once on this machine.")] = 1
    max_waiting_runs: Annotated[
        int, Field(ge=0, le=1000, description="Runs that may wait for their turn on this machine.")
    ] = 4
    ray_address: Annotated[
        str, Field(min_length=1, description="Address of the Ray cluster, for EXECUTOR=ray; auto finds one here.")
    ] = "auto"
    trainer_function_name: Annotated[
        str | None,
        Field(description="Lambda function that trains; if unset on Lambda, the serving function also trains."),
    ] = None
    prometheus_multiproc_dir: Annotated[
        Path | None, Field(description="Folder through which several processes of one server share their metrics.")
    ] = None
    aws_lambda_function_name: Annotated[
        str | None, Field(description="Set by Lambda itself: writable files then go to /tmp.")
    ] = None

    @property
    def on_lambda(self) -> bool:
        """Whether this process serves an AWS Lambda function."""
        return self.aws_lambda_function_name is not None

    @property
    def n_processes(self) -> int:
        """How many processes this server has."""
        return 1 if self.on_lambda else self.web_concurrency

    @property
    def logs_as(self) -> LogFormat:
        """``log_format``, or what suits the place."""
        return self.log_format or ("json" if self.on_lambda else "text")

    @property
    def writable_dir(self) -> Path:
        """``data_dir``, or under Lambda's only writable folder."""
        if self.on_lambda and not self.data_dir.is_absolute():
            return Path("/tmp") / self.data_dir  # noqa: S108 - the only writable folder on Lambda
        return self.data_dir


def settings_of_environment() -> Settings:
    """The settings of the environment and ``.env``; SystemExit with one line for each that is wrong, without its value.

    A traceback would show the value, which may be a key.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise SystemExit("\n".join(f"{name.upper()}: {fault}" for name, fault in faults_of(error))) from None


def faults_of(error: ValidationError) -> list[tuple[str, str]]:
    """Each wrong setting's name and what is wrong with it, without its value."""
    found = error.errors(include_url=False, include_input=False)
    return [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in found]


def sharing_metrics(settings: Settings, folder: Path) -> Settings:
    """The settings of each of a server's processes, which share their metrics through a folder of theirs or this one.

    Called before ``prometheus_client`` is imported, which reads the environment itself.
    """
    shared = settings.prometheus_multiproc_dir or folder
    os.environ[_SHARED_COUNTS] = str(shared)
    return settings.model_copy(update={"prometheus_multiproc_dir": shared})


def prepare_environment() -> None:
    """Set what libraries read from the environment themselves; called before they are imported.

    AWS entries of ``.env`` are copied to the environment, where boto3 looks for them. ONNX Runtime's telemetry and
    its file in the home directory are switched off. Numeric libraries use one thread, because the second costs more
    than it gives with matrices this small; pyarrow's allocator has none, because forked workers would lack it.
    CloudWatch metrics get default names. An empty PROMETHEUS_MULTIPROC_DIR counts as unset; the folder is created if it
    is missing.
    """
    from dotenv import dotenv_values

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # in time for all that matter: numpy alone is imported already
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "StockForecast")
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "stock-forecast")
    for name, value in dotenv_values(".env").items():
        if name.startswith(("AWS_", _SHARED_COUNTS)) and value:
            os.environ.setdefault(name, value)
    if os.environ.get(_SHARED_COUNTS):
        Path(os.environ[_SHARED_COUNTS]).mkdir(parents=True, exist_ok=True)
    else:
        os.environ.pop(_SHARED_COUNTS, None)
