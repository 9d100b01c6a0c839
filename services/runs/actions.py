"""What a run does with one ticker, by action."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from errors import ModelNotFound
from models.fitting import WEIGHTS
from models.specs import MODEL_SPECS
from schemas.accuracy import StepReport
from schemas.backtest import BacktestRequest
from schemas.card import ModelCard
from schemas.job import Phase
from schemas.run import TRAINS, ResultRow, RunSpec, TickerResult
from schemas.train import TrainRequest
from services.backtest import prepare_backtest, run_backtest
from services.catalogue import new_model_id
from services.forecasting.forecast import Forecast
from services.forecasting.forecasting import Forecasting
from services.jobs.heartbeat import PHASES, Heartbeat
from services.monitoring.forecast_log import ForecastLog
from services.monitoring.realised import realised_accuracy
from services.monitoring.scoring import score_due
from services.prices.series import PriceSource
from services.storage.registry import CALIBRATION, CARD, ModelRegistry, model_key, ticker_alias
from services.training.challenge import Challenger, evaluate_challenger
from services.training.train import train_model
from services.training.universe import NO_UNIVERSES
from services.training.work import RESERVED_S, publish

ACTION_PHASES: dict[Phase, float] = {**PHASES, "backtest": 0.98, "forecast": 0.99}
ACCURACY_DAYS = 90
SEEDS = 2**31


@dataclass(frozen=True, eq=False)
class ActionContext:
    """What a ticker is done with.

    Attributes:
        spec: the run.
        prices: of the chunk, with their markets.
        registry: the models.
        forecasting: forecasts from these prices.
        forecast_log: where the action ``forecast`` records what it forecasts, to be scored later.
        clock: the current time.
        monotonic_end: when ``time.monotonic()`` reaches it, this process is ended from outside.
    """

    spec: RunSpec
    prices: PriceSource
    registry: ModelRegistry
    forecasting: Forecasting
    forecast_log: ForecastLog
    clock: Callable[[], datetime]
    monotonic_end: float = math.inf


@dataclass
class Stopwatch:
    """Processor seconds by phase, the same on a busy machine; a phase begins where the one before ends."""

    seconds: dict[str, float] = field(default_factory=dict)
    _phase: str | None = None
    _since: float = 0.0

    def begin(self, phase: str | None) -> None:
        now = time.process_time()
        if self._phase is not None:
            spent = self.seconds.get(self._phase, 0.0) + now - self._since
            self.seconds[self._phase] = round(spent, 4)
        self._phase, self._since = phase, now


class Timed(Heartbeat):
    """A heartbeat that also measures what each phase costs."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.watch = Stopwatch()

    def phase(self, phase: Phase, done: float = 0.0) -> None:
        self.watch.begin(phase)
        super().phase(phase, done)


def act(ticker: str, context: ActionContext, heartbeat: Timed) -> TickerResult:
    """Do the run's action with one ticker.

    Raises:
        AppError: the ticker cannot be done.
        JobStopped: the run should stop.
    """
    action = context.spec.request.action
    with _timed(heartbeat):
        if action in TRAINS:
            result = _train(ticker, context, heartbeat)
        elif action == "backtest":
            result = _backtest(ticker, context, heartbeat)
        elif action == "forecast":
            result = _forecast(ticker, context, heartbeat)
        else:
            result = _score(ticker, context, heartbeat)
    return result.model_copy(update={"cpu_seconds": dict(heartbeat.watch.seconds)})


def training_request(spec: RunSpec, ticker: str) -> TrainRequest:
    """The training of one ticker, the same whatever runs it; its seed is made from the run's and the ticker."""
    options = spec.request.options
    return TrainRequest(
        **{
            **options.model_dump(),
            "ticker": ticker,
            "seed": int.from_bytes(sha256(f"{options.seed} {ticker}".encode()).digest()[:8]) % SEEDS,
            "warm_start": False,
            "base_model_id": spec.base_model_id,
            "promote_to": ticker_alias(ticker) if spec.request.promote else None,
        }
    )


def trains_networks(spec: RunSpec) -> bool:
    """Whether its workers import torch and Lightning."""
    return spec.request.action in TRAINS and MODEL_SPECS[spec.request.options.model].has_network


def model_id_of(spec: RunSpec, ticker: str) -> str:
    """The id of the model of a ticker: the same whenever and wherever it is trained in this run."""
    return new_model_id([ticker], spec.created_at, sha256(f"{spec.id} {ticker}".encode()).hexdigest()[:8])


@contextmanager
def _timed(heartbeat: Timed) -> Iterator[None]:
    try:
        yield
    finally:
        heartbeat.watch.begin(None)


def _train(ticker: str, context: ActionContext, heartbeat: Timed) -> TickerResult:
    spec, registry = context.spec, context.registry
    request, model_id = training_request(spec, ticker), model_id_of(spec, ticker)
    card = _stored(model_id, registry)
    if card is None:
        model = train_model(
            request,
            context.prices,
            registry,
            model_id,
            spec.created_at,
            lambda epoch: heartbeat.epoch(epoch.validation_loss),
            fit_until=context.monotonic_end - RESERVED_S,
            on_progress=heartbeat.fit,
            on_phase=heartbeat.phase,
        )
        heartbeat.phase("publish")
        publish(model, heartbeat, registry, context.monotonic_end)
        card = model.card
    promoted = None
    if request.promote_to is not None:
        heartbeat.phase("evaluate")
        position = 1 + spec.tickers.index(ticker)  # each ticker of the run is one more chance to win by chance
        challenger = Challenger(request.promote_to, spec.id, card, spec.created_at, position)
        promoted = evaluate_challenger(challenger, registry, context.prices, NO_UNIVERSES, heartbeat.seal).won
    heartbeat.phase("forecast")
    forecast = _forecast_of(ticker, model_id, context)
    reports = {report.step: report for report in card.test}
    return TickerResult(
        ticker=ticker,
        state="succeeded",
        as_of=card.last_session,
        model_id=model_id,
        weights_sha256=_weights_sha256(card),
        promoted=promoted,
        rows=tuple(_forecast_row(forecast, step, reports.get(step + 1)) for step in range(len(forecast.median))),
    )


def _weights_sha256(card: ModelCard) -> str:
    """Of the weights; of a model without a network, of its parameters."""
    name = WEIGHTS if WEIGHTS in card.files else min(card.files.keys() - {CALIBRATION})
    return card.files[name].sha256


def _stored(model_id: str, registry: ModelRegistry) -> ModelCard | None:
    """The card of a model that a worker has stored before it was lost."""
    if not registry.store.exists(model_key(model_id, CARD)):
        return None
    try:
        return registry.card(model_id)
    except ModelNotFound:
        return None


def _backtest(ticker: str, context: ActionContext, heartbeat: Timed) -> TickerResult:
    asked = context.spec.request
    heartbeat.phase("backtest")
    request = BacktestRequest(ticker=ticker, horizon=asked.horizon, levels=asked.levels)
    name = asked.model_id or ticker_alias(ticker)
    prepared = prepare_backtest(name, request, context.registry, context.prices, context.spec.created_at)
    found = run_backtest(prepared, lambda _: heartbeat.phase("backtest"))
    rows = tuple(_accuracy_row(found.model_id, report, asked.levels) for report in found.model_report.steps)
    return TickerResult(ticker=ticker, state="succeeded", as_of=found.as_of, model_id=found.model_id, rows=rows)


def _forecast(ticker: str, context: ActionContext, heartbeat: Timed) -> TickerResult:
    heartbeat.phase("forecast")
    forecast = _forecast_of(ticker, context.spec.request.model_id, context)
    context.forecast_log.record("batch", forecast.elapsed_ms, forecast)
    rows = tuple(_forecast_row(forecast, step, None) for step in range(len(forecast.median)))
    model_id = forecast.card.model_id
    return TickerResult(
        ticker=ticker, state="succeeded", as_of=forecast.given.history.as_of, model_id=model_id, rows=rows
    )


def _score(ticker: str, context: ActionContext, heartbeat: Timed) -> TickerResult:
    heartbeat.phase("test")
    store, now = context.registry.store, context.clock()
    score_due(store, context.prices, now, ticker=ticker)
    found = realised_accuracy(store, now, ACCURACY_DAYS, ticker, None).accuracy
    rows = tuple(_accuracy_row(one.model_id, one.report, context.spec.request.levels) for one in found)
    return TickerResult(ticker=ticker, state="succeeded", rows=rows)


def _forecast_of(ticker: str, model_id: str | None, context: ActionContext) -> Forecast:
    asked = context.spec.request
    return context.forecasting.forecast_ticker(model_id, ticker, asked.horizon, asked.levels, context.clock())


def _forecast_row(forecast: Forecast, step: int, report: StepReport | None) -> ResultRow:
    row = ResultRow() if report is None else _accuracy_row(None, report, forecast.levels)
    return row.model_copy(
        update={
            "model_id": forecast.card.model_id,
            "step": step + 1,
            "session": forecast.given.sessions[step],
            "point": float(forecast.median[step]),
            "lower": tuple(forecast.lower[step].tolist()),
            "upper": tuple(forecast.upper[step].tolist()),
            "no_change": forecast.given.last_value,
        }
    )


def _accuracy_row(model_id: str | None, report: StepReport, levels: Sequence[float]) -> ResultRow:
    found = {one.level: one.empirical_coverage for one in report.coverage}
    return ResultRow(
        model_id=model_id,
        step=report.step,
        mape=report.model.mape,
        no_change_mape=report.persistence.mape,
        crps_skill=report.skill.crps,
        coverage=tuple(found.get(level) for level in levels),
        n_origins=report.n_origins,
    )
