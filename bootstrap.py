"""Builds the components that the settings select, for the server, the worker, the command line and benchmarks."""

import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import SecretStr

from clock import Clock, utc_now
from config import ROOT, Settings, prepare_environment, settings_of_environment
from errors import AppError, BacktestCapacityExceeded, RunCapacityExceeded
from models.specs import MODEL_SPECS
from schemas.run import MAX_TICKERS, RunSpec
from schemas.run import Engine as RunEngine
from schemas.train import TrainRequest
from services.access import Keyring, keyring_of
from services.analyses import Analyses
from services.announcements import Announcements
from services.backtest_jobs import short_backtests
from services.forecasting.forecasting import Forecasting
from services.forecasting.replays import ReplayStore
from services.health import HealthCheck
from services.jobs.aws_lambda import LambdaExecutor, run_event, training_event
from services.jobs.executor import Executor, OnExit
from services.jobs.fork_server import FORKS_ARE_SAFE, ForkServer
from services.jobs.installation import installation_id
from services.jobs.job import Jobs
from services.jobs.local import LocalExecutor
from services.jobs.places import SharedPlaces
from services.jobs.waiters import Waiters
from services.jobs.workers import OfKinds, Programs, Workers
from services.latest_forecasts import LatestForecastsReader
from services.monitoring.forecast_log import ForecastLog
from services.nightly import Nightly, nightly_tickers
from services.prices.cache import CachedSource
from services.prices.cache.search import CachedSearch
from services.prices.cache.source import Fetcher
from services.prices.csv import CsvSource
from services.prices.fallback import FallbackSource
from services.prices.market import MarketAwareSource
from services.prices.measured import InstrumentedFetcher, InstrumentedPriceSource
from services.prices.patient import PatientFetcher
from services.prices.sample import SampleSource
from services.prices.series import PriceSource
from services.prices.yahoo import YahooSource
from services.quotas import Quotas
from services.runs.actions import trains_networks
from services.runs.pieces import Piece
from services.runs.runs import Runs
from services.runs.work import RunContext, work_chunk
from services.shared_work import SharedWork
from services.storage.bundled import BundledModel
from services.storage.measured import InstrumentedStore
from services.storage.registry import ModelRegistry
from services.storage.s3 import S3ArtifactStore
from services.storage.store import ArtifactStore, LocalArtifactStore
from services.storage.write_behind import WriteBehind
from services.symbols import SymbolDirectory
from services.training.checkpoints import Checkpoints
from services.training.universe import Universes
from services.training.work import WorkerContext
from services.webhooks.addresses import WebhookPolicy
from telemetry.logs import configure_logging
from telemetry.measures import NO_METER, Meter
from telemetry.system import SystemUsage

WORKER = (sys.executable, str(ROOT / "worker.py"))
FORKED = "--forked"  # and the kind of work: then the program is forked for each job
WorkKind = Literal["network", "other"]
"""Which imports work needs, see ``worker.IMPORTS``."""
NO_TRAINER = {"trainer_function_name": None}


@dataclass(eq=False)
class Runtime:
    """Everything that routes, workers and commands use; nothing is loaded or connected yet.

    Attributes:
        prices: prices alone, for analyses and for the outcomes of past forecasts.
        shown_prices: the same, which may fall back to the sample.
        model_prices: with the market of each exchange, for trainings and backtests.
        forecasting: the use case, with the market and prices that may fall back to the sample.
        executor, backtest_executor: run the jobs of each kind.
        run_executor: runs the coordinators of runs, which run the rest.
        waiters: of the jobs that end when no caller waits for them.
        writer: writes to the store in the background.
        latest: reads what the last nightly run has published.
        has_own_prices: whether ``prices`` are those that the settings select.
    """

    settings: Settings
    clock: Clock
    meter: Meter
    store: ArtifactStore
    registry: ModelRegistry
    jobs: Jobs
    executor: Executor
    backtest_executor: Executor
    runs: Runs
    run_executor: Executor
    prices: PriceSource
    shown_prices: PriceSource
    model_prices: PriceSource
    forecasting: Forecasting
    forecast_log: ForecastLog
    writer: WriteBehind
    health_check: HealthCheck
    system_usage: SystemUsage
    keyring: Keyring
    quotas: Quotas
    waiters: Waiters
    short_backtests: SharedWork[str]
    analyses: Analyses
    latest: LatestForecastsReader
    symbols: SymbolDirectory
    webhook_policy: WebhookPolicy
    has_own_prices: bool = True

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        clock: Clock = utc_now,
        *,
        meter: Meter | None = None,
        store: ArtifactStore | None = None,
        prices: PriceSource | None = None,
        worker: Sequence[str] | None = None,
    ) -> Self:
        """Build what the settings select; ``meter``, ``store``, ``prices`` and ``worker`` replace the selected ones.

        ``worker`` is a command that does a job, whose id is its last argument.
        """
        meter = meter or meter_of(settings)
        store = InstrumentedStore(store or store_of(settings), meter)
        writer = WriteBehind()
        registry = ModelRegistry(store, bundled_model(settings), meter)
        jobs, runs = Jobs(store), Runs(store)
        among = SampleSource.tickers if settings.price_source == "sample" else None
        yahoo = yahoo_fetcher(settings)  # one: yfinance keeps one session per process
        source = InstrumentedPriceSource(prices or price_source(settings, meter, yahoo), meter, among)
        shown = forecast_prices(settings, source)
        programs = Programs(worker or WORKER, _for_workers(settings))
        return cls(
            settings=settings,
            clock=clock,
            meter=meter,
            store=store,
            registry=registry,
            jobs=jobs,
            executor=_executor(
                settings,
                programs if worker else _training_workers(settings, jobs),
                jobs,
                clock,
                "trainings",
                meter=meter,
                max_running=settings.max_trainings,
                max_waiting=settings.max_waiting_trainings,
            ),
            backtest_executor=_executor(  # a lane of its own: no backtest waits for an hour of training
                settings,
                programs,
                jobs,
                clock,
                "backtests",
                max_running=settings.max_backtests,
                max_waiting=settings.max_waiting_backtests,
                refusal=BacktestCapacityExceeded,
            ),
            runs=runs,
            run_executor=_executor(
                settings if _run_engine(settings) == "lambda" else settings.model_copy(update=NO_TRAINER),
                programs,
                jobs,
                clock,
                "runs",
                event=run_event,
                max_running=settings.max_runs,
                max_waiting=settings.max_waiting_runs,
                refusal=RunCapacityExceeded,
                on_exit=partial(_end_of_coordinator, runs, clock),
            ),
            prices=source,
            shown_prices=shown,
            model_prices=MarketAwareSource(source),
            forecasting=Forecasting(registry, MarketAwareSource(shown), ReplayStore(store, writer)),
            forecast_log=ForecastLog(store, writer, meter, skip_demo=settings.price_source != "sample"),
            writer=writer,
            health_check=HealthCheck(store, source, meter),
            system_usage=SystemUsage(),
            keyring=keyring_of(_secret(settings.api_key), _secret(settings.api_keys)),
            quotas=quotas_of(settings),
            waiters=Waiters(),
            short_backtests=short_backtests(),
            analyses=Analyses(store, writer),
            latest=LatestForecastsReader(store, meter),
            symbols=symbol_directory(settings, yahoo),
            webhook_policy=WebhookPolicy(settings.webhook_allow_http, settings.webhook_allow_private),
            has_own_prices=prices is None,
        )

    @classmethod
    def from_environment(cls, **settings_given: object) -> Self:
        """The runtime of this process, from the environment and ``.env``, with its logging set up.

        ``settings_given`` override the environment.
        """
        return cls.from_settings(process_settings(**settings_given))

    @property
    def universes(self) -> Universes:
        """Those of the machine that trains."""
        return Universes(None) if _trainer_function(self.settings) else universes_of(self.settings)

    @property
    def caches(self) -> tuple[ArtifactStore, ...]:
        """The stores of downloaded prices on this machine."""
        return (LocalArtifactStore(self.settings.writable_dir / "cache"),)

    @property
    def nightly(self) -> Nightly:
        """The nightly run's part with prices. Prices never fall back to the sample."""
        settings = self.settings
        return Nightly(
            tickers=nightly_tickers(
                settings.nightly_tickers,
                csv_folder(settings) if settings.price_source == "csv" else None,
                SampleSource.tickers if settings.price_source == "sample" else frozenset(),
                lambda: universes_of(settings),
            ),
            forecasting=Forecasting(self.registry, self.model_prices, ReplayStore(self.store, self.writer)),
            registry=self.registry,
            prices=self.prices,
            market_prices=self.model_prices,
            store=self.store,
            forecast_log=self.forecast_log,
            writer=self.writer,
            meter=self.meter,
            downloads=settings.price_source not in ("csv", "sample"),
        )

    @property
    def announcements(self) -> Announcements:
        """What delivers webhooks."""
        return Announcements(self.store, self.jobs, self.runs, self.clock, self.webhook_policy, meter=self.meter)

    @property
    def worker_context(self) -> WorkerContext:
        checkpoints = Checkpoints(self.settings.writable_dir / "checkpoints")
        # an event on Lambda is for the function that receives it, whatever name its sender knows
        executor = None if self.settings.on_lambda else self.executor.name
        return WorkerContext(
            self.jobs, self.model_prices, self.registry, self.clock, self.universes, checkpoints, executor
        )

    @property
    def run_engine(self) -> RunEngine:
        """What runs the chunks of runs."""
        return _run_engine(self.settings)

    @property
    def run_universes(self) -> Universes:
        """Those of the machine that runs the coordinators of runs."""
        return Universes(None) if self.run_engine == "lambda" else universes_of(self.settings)

    def run_context(self) -> RunContext:
        """What a worker of a run works with."""
        submit = None
        if self.run_engine == "lambda":
            submit = self._submit_run
        return RunContext(self.runs, self.registry, self.forecast_log, self.writer, self.clock, submit)

    def run_prices(self, spec: RunSpec) -> PriceSource:
        """The price source of a run's coordinator, which waits while Yahoo limits requests.

        Raises:
            UniverseNotFound, TrainingUnavailable: its universe no longer exists.
        """
        if spec.request.universe is not None:
            self.run_universes.get(spec.request.universe)
            return CsvSource(self.run_universes.folder(spec.request.universe))
        if self.settings.price_source in ("sample", "csv") or not self.has_own_prices:
            return self.prices
        fetcher = PatientFetcher(InstrumentedFetcher(yahoo_fetcher(self.settings), self.meter), time.sleep)
        return cached_prices(self.settings, fetcher, self.meter)

    @contextmanager
    def chunk_executor(self, spec: RunSpec, on_exit: OnExit) -> Iterator[Executor]:
        """What brings workers to the chunks of a run, until the block ends."""
        executor = self._chunk_executor(spec, on_exit)
        try:
            yield executor
        finally:
            executor.close()

    def _chunk_executor(self, spec: RunSpec, on_exit: OnExit) -> Executor:
        settings = self.settings
        if self.run_engine == "lambda":
            return LambdaExecutor(_trainer_function(settings) or "", run_event)
        if self.run_engine == "ray":
            from services.jobs.ray import RayExecutor

            return RayExecutor(settings.ray_address, work_on_ray, _for_workers(settings), on_exit)
        return LocalExecutor(
            _workers(settings, "network" if trains_networks(spec) else "other"),
            self.jobs,
            self.clock,
            max_running=settings.run_workers,
            max_waiting=MAX_TICKERS,
            on_exit=on_exit,
        )

    def _submit_run(self, piece: str) -> None:
        with self.run_executor.slot() as submit:
            submit(piece)


def worker_name() -> str:
    """A name for this process, as claims have it: different for each piece that it works on."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def work_on_ray(settings: bytes, piece: str) -> None:
    """What a task of Ray does: the chunk, with the settings of the coordinator."""
    prepare_environment()
    chosen = Settings.model_validate_json(settings)
    configure_logging(chosen.logs_as, chosen.log_level)
    found = Piece.parse(piece)
    assert found is not None  # noqa: S101 - our own coordinator names it
    work_chunk(found, worker_name(), Runtime.from_settings(chosen, meter=NO_METER).run_context())


def process_settings(**settings_given: object) -> Settings:
    """The settings of this process, from the environment and ``.env``, with its logging set up.

    ``settings_given`` override the environment.
    """
    prepare_environment()
    settings = settings_of_environment().model_copy(update=settings_given)
    configure_logging(settings.logs_as, settings.log_level, replace=settings.on_lambda)
    return settings


def store_of(settings: Settings) -> ArtifactStore:
    """S3 if the settings name a bucket, else a local folder."""
    if settings.s3_bucket_name:
        return S3ArtifactStore(settings.s3_bucket_name, endpoint_url=settings.s3_endpoint_url)
    return LocalArtifactStore(settings.writable_dir)


def universes_of(settings: Settings) -> Universes:
    """Those of this machine."""
    return Universes(None if settings.on_lambda else settings.writable_dir / "universes")


def bundled_model(settings: Settings) -> BundledModel:
    """The model behind ``default`` until that alias is moved."""
    return BundledModel(settings.model_path, settings.metadata_path, settings.look_back)


def meter_of(settings: Settings) -> Meter:
    """CloudWatch's embedded metrics on Lambda, Prometheus elsewhere."""
    if settings.on_lambda:
        from telemetry.embedded import EmbeddedMeter

        return EmbeddedMeter()
    from telemetry.prometheus import PrometheusMeter

    return PrometheusMeter(settings.prometheus_multiproc_dir)


def price_source(settings: Settings, meter: Meter = NO_METER, yahoo: YahooSource | None = None) -> PriceSource:
    """The source that ``PRICE_SOURCE`` names. For ``yahoo,sample`` this is Yahoo alone, see ``forecast_prices``."""
    if settings.price_source == "sample":
        return SampleSource()
    if settings.price_source == "csv":
        return CsvSource(csv_folder(settings))
    return cached_prices(settings, InstrumentedFetcher(yahoo or yahoo_fetcher(settings), meter), meter)


def symbol_directory(settings: Settings, yahoo: YahooSource) -> SymbolDirectory:
    """What can be found by name: the source's tickers, or those that Yahoo finds."""
    if settings.price_source == "sample":
        return SymbolDirectory("sample", lambda: SampleSource.tickers)
    if settings.price_source == "csv":
        return SymbolDirectory("csv", CsvSource(csv_folder(settings)).tickers)
    return SymbolDirectory("yahoo", search=CachedSearch(yahoo))


def csv_folder(settings: Settings) -> Path:
    """The folder of TICKER.csv files, for ``PRICE_SOURCE=csv``."""
    return settings.price_dir or settings.writable_dir / "prices"


def yahoo_fetcher(settings: Settings) -> YahooSource:
    """Yahoo without a cache."""
    folder = settings.writable_dir / "cache" / "yfinance"
    return YahooSource(folder, settings.yahoo_timeout_s, settings.yahoo_attempts)


def cached_prices(settings: Settings, fetcher: Fetcher, meter: Meter = NO_METER) -> CachedSource:
    """The fetcher's prices, kept on disk."""
    # a fresh Lambda instance has an empty disk: the bucket keeps it from requesting what another one has fetched
    shared = store_of(settings) if settings.on_lambda and settings.s3_bucket_name else None
    return CachedSource(
        fetcher, LocalArtifactStore(settings.writable_dir / "cache"), settings.price_ttl_s, meter, shared
    )


def forecast_prices(settings: Settings, prices: PriceSource) -> PriceSource:
    """``prices``. With ``yahoo,sample`` they fall back to the sample while Yahoo is unavailable, but not on Lambda."""
    if settings.price_source == "yahoo,sample" and not settings.on_lambda:
        return FallbackSource(prices, SampleSource())
    return prices


def quotas_of(settings: Settings) -> Quotas:
    """The limits of a caller in this process: it meets each of the processes as often as the others."""
    requests, cpu_s, n = settings.rate_limit_requests, settings.rate_limit_cpu_s, settings.n_processes
    return Quotas(None if requests is None else max(1, requests // n), None if cpu_s is None else cpu_s / n)


def _secret(setting: SecretStr | None) -> str | None:
    return None if setting is None else setting.get_secret_value()


def _executor(
    settings: Settings,
    workers: Workers,
    jobs: Jobs,
    clock: Clock,
    lane: str,
    *,
    max_running: int,
    max_waiting: int,
    event: Callable[[str], dict[str, str]] = training_event,
    **of_kind: Any,
) -> Executor:
    """Runs each job in a Lambda invocation or, on a server, in a process.

    All processes of a server share the limits of a lane.
    """
    function = _trainer_function(settings)
    if function is not None:
        return LambdaExecutor(function, event)
    name = partial(installation_id, settings.writable_dir)
    folder = settings.writable_dir / "installation" / lane
    places = SharedPlaces(folder, max_running, max_waiting) if settings.n_processes > 1 else None
    return LocalExecutor(
        workers,
        jobs,
        clock,
        name=name,
        work=lane,
        places=places,
        max_running=max_running,
        max_waiting=max_waiting,
        **of_kind,
    )


def _workers(settings: Settings, kind: WorkKind) -> Workers:
    """Forked where forks are safe."""
    if FORKS_ARE_SAFE:
        return ForkServer((*WORKER, FORKED, kind), _for_workers(settings))
    return Programs(WORKER, _for_workers(settings))


def _training_workers(settings: Settings, jobs: Jobs) -> Workers:
    """Only those that train networks have imported torch, which takes seconds."""
    kinds: tuple[WorkKind, ...] = ("network", "other")
    return OfKinds({kind: _workers(settings, kind) for kind in kinds}, partial(_kind_of_training, jobs))


def _kind_of_training(jobs: Jobs, job_id: str) -> WorkKind:
    try:
        request = jobs.spec(job_id).request
    except AppError:
        return "network"  # can do both: its worker meets the same error, and reports it
    return "other" if isinstance(request, TrainRequest) and not MODEL_SPECS[request.model].has_network else "network"


def _for_workers(settings: Settings) -> bytes:
    """The settings as a worker reads them: none needs the keys."""
    placed = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})  # a worker may run elsewhere
    return placed.model_dump_json(exclude={"api_key", "api_keys"}).encode()


def _end_of_coordinator(runs: Runs, clock: Clock, piece: str, why: str | None) -> None:
    found = Piece.parse(piece)
    if found is not None:
        if why is not None:
            runs.lose(found, why, clock())
        runs.status(found.run_id, clock())  # ends a round that will not go on


def _run_engine(settings: Settings) -> RunEngine:
    if settings.executor is not None and not settings.on_lambda:
        return settings.executor
    return "local" if _trainer_function(settings) is None else "lambda"


def _trainer_function(settings: Settings) -> str | None:
    """The Lambda function that trains; None where this machine does."""
    return settings.trainer_function_name or settings.aws_lambda_function_name
