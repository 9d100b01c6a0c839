"""A run: one action over many tickers. Its documents in the store, and its state as the API returns it."""

from datetime import date, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.common import (
    DEFAULT_LEVELS,
    DISTINCT,
    MAX_HORIZON,
    Document,
    Levels,
    ModelId,
    ModelOrAlias,
    Request,
    Ticker,
    UniverseName,
)
from schemas.job import JOB_ID_PATTERN, JobFailure, Phase
from schemas.train import TrainOptions
from schemas.webhook import OnEnd, Webhook, WebhookStatus

RunAction = Literal["train", "fine_tune", "backtest", "forecast", "score"]
RunState = Literal["queued", "running", "succeeded", "partial", "failed", "cancelled", "lost"]
TickerState = Literal["waiting", "running", "succeeded", "failed", "cancelled", "lost"]
Engine = Literal["local", "ray", "lambda"]
TableFormat = Literal["csv", "parquet"]

TRAINS: tuple[RunAction, ...] = ("train", "fine_tune")
MAX_TICKERS = 5000
MAX_FAILURES = 50  # that a run names; the table of results has all
RUN_ID_PATTERN = JOB_ID_PATTERN

RunId = Annotated[str, Field(pattern=RUN_ID_PATTERN, description="Id of a run; later runs sort after earlier ones.")]


class RunOptions(Request):
    """What a run does."""

    action: Annotated[
        RunAction,
        Field(
            description="``train`` fits a model for each ticker from random weights, ``fine_tune`` from those of "
            "another model; ``backtest`` and ``forecast`` use stored models; ``score`` compares past forecasts with "
            "the closes that followed."
        ),
    ]
    universe: Annotated[
        UniverseName | None,
        Field(description="A folder of prices on the server, in place of ``tickers``; its prices are used."),
    ] = None
    training: Annotated[
        TrainOptions | None,
        Field(
            description="How to train and fine-tune. ``fine_tune`` begins with ``base_model_id``, by default the "
            "model of the alias ``default``. Each ticker has a seed of its own, made from ``seed`` and the ticker."
        ),
    ] = None
    promote: Annotated[
        bool,
        Field(
            description="Compare each trained model with the one that answers for its ticker, and move the alias "
            "``ticker/…`` to the new model if that wins."
        ),
    ] = False
    model_id: Annotated[
        ModelOrAlias | None,
        Field(description="The model to test or to forecast with; by default each ticker's own, else ``default``."),
    ] = None
    horizon: Annotated[int, Field(ge=1, le=MAX_HORIZON, description="Sessions forecast for each ticker.")] = 5
    levels: Levels = DEFAULT_LEVELS

    @model_validator(mode="after")
    def _options_belong_to_the_action(self) -> Self:
        if self.action not in TRAINS and (self.training is not None or self.promote):
            raise ValueError(f"training and promote are for the actions train and fine_tune, not for {self.action}")
        if self.action not in ("backtest", "forecast") and self.model_id is not None:
            raise ValueError(f"model_id is for the actions backtest and forecast, not for {self.action}")
        if self.action == "fine_tune" and self.options.model != "return_lstm":
            raise ValueError("only a return_lstm can be fine-tuned")
        if self.action == "train" and self.options.base_model_id is not None:
            raise ValueError("base_model_id is for the action fine_tune")
        return self

    @property
    def options(self) -> TrainOptions:
        """``training``, or its defaults."""
        return self.training or TrainOptions()


class RunRequest(RunOptions):
    """What to do, and with which tickers."""

    tickers: Annotated[
        tuple[Ticker, ...], Field(max_length=MAX_TICKERS, description="Each once.", json_schema_extra=DISTINCT)
    ] = ()
    webhook: OnEnd = None

    @model_validator(mode="after")
    def _one_way_to_name_tickers(self) -> Self:
        if bool(self.tickers) == (self.universe is not None):
            raise ValueError("provide exactly one of tickers and universe")
        if len(set(self.tickers)) != len(self.tickers):
            raise ValueError("tickers must be distinct")
        return self

    def without_tickers(self) -> RunOptions:
        return RunOptions.model_validate(self.model_dump(exclude={"tickers", "webhook"}))


class RunSpec(Document):
    """What a run does; written once, when it is submitted."""

    id: RunId
    created_at: datetime
    request: RunOptions
    tickers: tuple[Ticker, ...] = Field(description="All of them, those of the universe included.")
    base_model_id: ModelId | None = Field(default=None, description="The model that a fine-tuning begins with.")
    webhook: Webhook | None = None


class Attempt(Document):
    """A worker that had a document, and how it lost it."""

    worker: str
    claimed_at: datetime
    ended_at: datetime | None = None
    lost: str | None = Field(default=None, description="Why its worker was lost; null if it was not.")
    ticker: str | None = Field(default=None, description="The ticker in work when the worker was lost.")


class Leased(Document):
    """A document that one worker at a time changes."""

    attempts: tuple[Attempt, ...] = ()
    touched_at: datetime = Field(description="When it was last changed; of a worker, its heartbeat.")
    ended: bool = False

    @property
    def worker(self) -> str | None:
        """The worker that has it; None while no worker does."""
        last = self.attempts[-1] if self.attempts else None
        return last.worker if last is not None and last.ended_at is None else None


class Round(Leased):
    """The first attempt of a run, or a later one that resumes it: which tickers are done together.

    Its worker, the coordinator, fetches the prices of each chunk and brings a worker to it.
    """

    executor: str = Field(description="The only executor that brings a coordinator to it.")
    engine: Engine
    chunks: tuple[tuple[Ticker, ...], ...]

    @property
    def outlived(self) -> bool:
        """Whether the chunks go on when the coordinator has ended: an event of Lambda waits without it."""
        return self.engine == "lambda"


class ResultRow(Document):
    """One step of one ticker. Prices are in quote currency; what the action does not compute is null."""

    model_id: ModelId | None = None
    step: int | None = Field(default=None, description="Sessions ahead.")
    session: date | None = Field(default=None, description="The session forecast.")
    point: float | None = Field(default=None, description="The median.")
    lower: tuple[float, ...] = Field(default=(), description="Lower bounds, one for each level of the request.")
    upper: tuple[float, ...] = Field(default=(), description="Upper bounds, one for each level of the request.")
    no_change: float | None = Field(default=None, description="The no-change forecast: the last close.")
    mape: float | None = Field(default=None, description="Mean absolute percentage error, as a fraction.")
    no_change_mape: float | None = Field(default=None, description="The same of the no-change forecast.")
    crps_skill: float | None = Field(default=None, description="1 − CRPS / CRPS of the no-change forecast.")
    coverage: tuple[float | None, ...] = Field(
        default=(), description="Share of closes inside the interval, one for each level of the request."
    )
    n_origins: int | None = Field(default=None, description="Forecasts that the accuracy was measured on.")


class TickerResult(Document):
    """How a ticker ended."""

    ticker: Ticker
    state: Literal["succeeded", "failed", "cancelled", "lost"]
    as_of: date | None = Field(default=None, description="The newest session of the prices.")
    model_id: ModelId | None = Field(default=None, description="The model that was trained, tested or used.")
    weights_sha256: str | None = Field(default=None, description="Of the trained model's weights or parameters.")
    promoted: bool | None = Field(default=None, description="Whether the alias was moved; null where not asked for.")
    rows: tuple[ResultRow, ...] = ()
    cpu_seconds: dict[str, float] = Field(default={}, description="Processor seconds by phase.")
    error: JobFailure | None = None


class Chunk(Leased):
    """Some tickers of a round, which one worker does one after the other."""

    tickers: tuple[Ticker, ...]
    current: Ticker | None = Field(default=None, description="In work.")
    phase: Phase | None = None
    results: tuple[TickerResult, ...] = ()


class RunFailure(Document):
    """A ticker that was not done, and why."""

    ticker: Ticker
    state: TickerState
    code: str = Field(description="Error code, see docs/errors.md.")
    status: int = Field(description="HTTP status that a request for this ticker alone would get.")
    detail: str = Field(description="What happened, for people.")


class LostWorker(Document):
    """A worker that died or fell silent; the tickers it had not finished are done again."""

    worker: str
    claimed_at: datetime
    lost_at: datetime
    reason: str
    ticker: str | None = Field(description="The ticker that it worked on.")


class TickerCounts(Document):
    """How many tickers are in each state."""

    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    lost: int = 0

    @property
    def done(self) -> int:
        return self.succeeded + self.failed + self.cancelled + self.lost


class RunEnd(Document):
    """How a round ended; only the first end that is written counts."""

    state: RunState
    at: datetime
    reason: str | None = None
    counts: TickerCounts
    failures: tuple[RunFailure, ...] = ()
    lost_workers: tuple[LostWorker, ...] = ()


class Run(Document):
    """The state of a run."""

    id: RunId
    state: RunState = Field(
        description="``partial`` if some tickers failed, ``failed`` if all did, ``lost`` if its workers died; what is "
        "not done can be resumed."
    )
    request: RunOptions
    n_tickers: int
    created_at: datetime
    ended_at: datetime | None = Field(description="Null while it waits or runs.")
    cancel_requested: bool = Field(description="Whether the run is to stop; it may still run for seconds.")
    engine: Engine = Field(description="What runs the workers: processes of this machine, Ray or AWS Lambda.")
    base_model_id: ModelId | None = Field(description="The model that a fine-tuning begins with.")
    n_resumed: int = Field(description="How often it was resumed.")
    counts: TickerCounts
    share: float = Field(ge=0, le=1, description="Of the tickers, those that have ended.")
    reason: str | None = Field(description="Why it was lost; null otherwise.")
    failures: tuple[RunFailure, ...] = Field(description=f"Tickers that failed, the first {MAX_FAILURES}.")
    lost_workers: tuple[LostWorker, ...] = Field(description="Workers that died or fell silent.")
    webhook: WebhookStatus | None = Field(default=None, description="The announcement of the end; null without one.")


class RunPage(Document):
    """Some runs, newest first."""

    runs: tuple[Run, ...]
    next_after: RunId | None = Field(description="Pass as ``after`` for the next page; null on the last.")
    unreadable: tuple[RunId, ...] = Field(
        default=(), description="Runs of this page whose documents are damaged; they count towards ``limit``."
    )


class RunTicker(Document):
    """The state of one ticker of a run."""

    ticker: Ticker
    state: TickerState
    model_id: ModelId | None = None
    weights_sha256: str | None = None
    promoted: bool | None = None
    cpu_seconds: dict[str, float] = Field(default={}, description="Processor seconds by phase.")
    error: JobFailure | None = None


class RunTickerPage(Document):
    """Some tickers of a run, in the order of the request."""

    tickers: tuple[RunTicker, ...]
    next_after: Ticker | None = Field(description="Pass as ``after`` for the next page; null on the last.")
