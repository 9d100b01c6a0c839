"""The settings, the only reader of the environment, and what they choose."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from clock import Clock
from services.jobs.aws_lambda import LambdaExecutor
from services.jobs.executor import Executor
from services.jobs.job import Jobs
from services.jobs.local import LocalExecutor
from services.prices.cache import CachedSource
from services.prices.csv import CsvSource
from services.prices.fallback import FallbackSource
from services.prices.measured import InstrumentedFetcher
from services.prices.sample import SampleSource
from services.prices.series import PriceSource
from services.prices.suggestions import SuggestingSource
from services.prices.yahoo import YahooSource
from services.storage.bundled import BundledModel
from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from telemetry.logs import LogFormat
from telemetry.measures import NO_METER, Meter

ROOT = Path(__file__).parent
BUNDLED = ROOT / "models" / "bundled"
_SHARED_COUNTS = "PROMETHEUS_MULTIPROC_DIR"

PriceSourceName = Annotated[
    Literal["yahoo", "sample", "csv", "yahoo,sample"],
    BeforeValidator(lambda name: name.replace(" ", "").lower() if isinstance(name, str) else name),
]
"""``yahoo,sample``: Yahoo, and while it is unavailable the sample, in answers to forecasts only."""


class Settings(BaseSettings):
    """Read once from the environment and ``.env``; the defaults need no cloud account."""

    model_config = SettingsConfigDict(frozen=True, env_file=".env", extra="ignore", env_ignore_empty=True)

    host: Annotated[str, Field(description="Address the server listens on.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535, description="Port the server listens on.")] = 8000
    data_dir: Annotated[Path, Field(description="Folder of models and caches.")] = Path("var")
    price_source: Annotated[PriceSourceName, Field(description="Where daily prices come from.")] = "yahoo"
    price_dir: Annotated[
        Path | None, Field(description="Folder of TICKER.csv files, for PRICE_SOURCE=csv; by default DATA_DIR/prices.")
    ] = None
    price_ttl_s: Annotated[
        float, Field(ge=0, description="Seconds during which fetched prices are not asked for again.")
    ] = 900
    yahoo_timeout_s: Annotated[float, Field(gt=0, le=60, description="Seconds to wait for one Yahoo answer.")] = 10
    yahoo_attempts: Annotated[int, Field(ge=1, le=10, description="Tries per Yahoo request.")] = 3
    s3_bucket_name: Annotated[
        str | None,
        Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="Bucket of the models; DATA_DIR when unset."),
    ] = None
    s3_endpoint_url: Annotated[
        str | None, Field(pattern=r"^https?://[^\s/?#]+/?$", description="Another S3 server than AWS.")
    ] = None
    model_path: Annotated[Path, Field(description="Network of the default model (ONNX).")] = BUNDLED / "model.onnx"
    metadata_path: Annotated[Path, Field(description="Card of the default model; its other files lie beside it.")] = (
        BUNDLED / "metadata.json"
    )
    look_back: Annotated[
        int | None, Field(ge=10, le=250, description="If set, the default model must look back this many sessions.")
    ] = None
    max_body_bytes: Annotated[int, Field(ge=1024, description="Largest request body accepted.")] = 1_000_000
    api_key: Annotated[
        SecretStr | None,
        Field(min_length=20, description="Callers must send it as X-API-Key; unset, authentication is off."),
    ] = None
    log_format: Annotated[
        LogFormat | None, Field(description="json or text; when unset, json on Lambda and text elsewhere.")
    ] = None
    train_wait_s: Annotated[
        float, Field(ge=0, le=3600, description="Seconds that POST /models/train waits before it answers 202.")
    ] = 900
    max_trainings: Annotated[int, Field(ge=1, le=64, description="Models trained at once on this machine.")] = 1
    max_waiting_trainings: Annotated[
        int, Field(ge=0, le=1000, description="Trainings that may wait for their turn on this machine.")
    ] = 4
    trainer_function_name: Annotated[
        str | None, Field(description="Lambda function that trains; on Lambda, when unset, the serving one itself.")
    ] = None
    prometheus_multiproc_dir: Annotated[
        Path | None, Field(description="Folder in which several processes of one server count together.")
    ] = None
    aws_lambda_function_name: Annotated[
        str | None, Field(description="Set by Lambda itself: writable files then go to /tmp.")
    ] = None

    @property
    def on_lambda(self) -> bool:
        """Whether this process serves an AWS Lambda function."""
        return self.aws_lambda_function_name is not None

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


def artifact_store(settings: Settings) -> ArtifactStore:
    """S3 where a bucket is named, else a local folder."""
    if settings.s3_bucket_name:
        return S3ArtifactStore(settings.s3_bucket_name, endpoint_url=settings.s3_endpoint_url)
    return LocalArtifactStore(settings.writable_dir)


def default_model(settings: Settings) -> BundledModel:
    """The model that answers as ``default`` until the alias is moved."""
    return BundledModel(settings.model_path, settings.metadata_path, settings.look_back)


def meter(settings: Settings) -> Meter:
    """What measures: CloudWatch's embedded metrics on Lambda, Prometheus elsewhere."""
    if settings.on_lambda:
        from telemetry.embedded import EmbeddedMeter

        return EmbeddedMeter()
    from telemetry.prometheus import PrometheusMeter

    return PrometheusMeter(settings.prometheus_multiproc_dir)


def executor(settings: Settings, jobs: Jobs, clock: Clock, meter: Meter) -> Executor:
    """On Lambda an invocation per job, elsewhere a process per job."""
    function = settings.trainer_function_name or settings.aws_lambda_function_name
    if function is not None:
        return LambdaExecutor(function)
    return LocalExecutor(
        [sys.executable, str(ROOT / "worker.py")],
        settings.model_dump_json(exclude={"api_key"}).encode(),  # no worker asks for it
        jobs,
        clock,
        meter,
        max_running=settings.max_trainings,
        max_waiting=settings.max_waiting_trainings,
    )


def price_source(settings: Settings, meter: Meter = NO_METER) -> PriceSource:
    """The source that ``PRICE_SOURCE`` names; with ``yahoo,sample`` that is Yahoo alone, see ``forecast_prices``."""
    if settings.price_source == "sample":
        return SuggestingSource(SampleSource(), among=SampleSource.tickers)
    if settings.price_source == "csv":
        return SuggestingSource(CsvSource(settings.price_dir or settings.writable_dir / "prices"))
    return SuggestingSource(_yahoo(settings, meter))


def forecast_prices(settings: Settings, prices: PriceSource) -> PriceSource:
    """``prices``, and with ``yahoo,sample`` the sample while they are unavailable; for forecasts, never on Lambda."""
    if settings.price_source == "yahoo,sample" and not settings.on_lambda:
        return FallbackSource(prices, SampleSource())
    return prices


def _yahoo(settings: Settings, meter: Meter) -> PriceSource:
    cache = settings.writable_dir / "cache"
    fetcher = YahooSource(cache / "yfinance", settings.yahoo_timeout_s, settings.yahoo_attempts)
    local = LocalArtifactStore(cache)
    # a fresh Lambda instance has an empty disk: the bucket keeps it from requesting what another one has fetched
    shared = artifact_store(settings) if settings.on_lambda and settings.s3_bucket_name else None
    return CachedSource(InstrumentedFetcher(fetcher, meter), local, settings.price_ttl_s, meter, shared)


def prepare_environment() -> None:
    """Set what libraries read from the environment themselves; called before they are imported.

    ``.env``'s AWS entries go where boto3's own chain looks for them, and ONNX
    Runtime is kept from writing to the home directory and calling its makers.
    CloudWatch metrics get names of ours where the deployment gives none. An empty
    PROMETHEUS_MULTIPROC_DIR means the same as none; the folder is made where it is missing.
    """
    from dotenv import dotenv_values

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("POWERTOOLS_METRICS_NAMESPACE", "StockForecast")
    os.environ.setdefault("POWERTOOLS_SERVICE_NAME", "stock-forecast")
    for name, value in dotenv_values(".env").items():
        if name.startswith(("AWS_", _SHARED_COUNTS)) and value:
            os.environ.setdefault(name, value)
    if os.environ.get(_SHARED_COUNTS):
        Path(os.environ[_SHARED_COUNTS]).mkdir(parents=True, exist_ok=True)
    else:
        os.environ.pop(_SHARED_COUNTS, None)
