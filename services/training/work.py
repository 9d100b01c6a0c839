"""What a worker does with a job: claim it, train and publish the model or run the backtest, record the end."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tenacity import (
    RetryCallState,
    Retrying,
    retry,
    retry_if_exception_type,
    stop_after_delay,
    stop_before_delay,
    wait_exponential,
)

from errors import AppError, ModelInUse, ModelNotFound, StoreUnavailable
from schemas.backtest import BacktestRequest, BacktestResponse
from schemas.card import ModelCard
from schemas.job import JobEnd, JobFailure, JobSpec
from schemas.train import TrainRequest, TrainResult
from services.backtest import prepare_backtest, run_backtest
from services.jobs.heartbeat import BACKTEST_PHASES, Heartbeat, JobStopped
from services.jobs.job import Jobs, cancelled_end
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry, model_key
from services.training.challenge import Challenger, evaluate_challenger
from services.training.checkpoints import Checkpoints
from services.training.train import TrainedModel, train_model, train_result
from services.training.universe import Universe, Universes

# Of the time left to the process, what is reserved after the fit for calibrating, measuring and storing.
RESERVED_S = 60.0
RESERVED_PER_TICKER_S = 5.0
RESERVED_PER_TICKER_OF_UNIVERSE_S = 2.0  # all steps of all tickers are measured together

PUBLISH_WITHIN_S = 600.0
END_WITHIN_S = 15.0  # and one more call of the store: shorter than the silence after which a job counts as lost

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class WorkerContext:
    """Where a worker reads jobs, prices and universes, and stores models and the state of long trainings.

    Attributes:
        executor: the name of the executor that this worker belongs to; None for one that takes any job.
        beat_s: seconds between two heartbeats; None for the usual ones.
    """

    jobs: Jobs
    prices: PriceSource
    registry: ModelRegistry
    clock: Callable[[], datetime]
    universes: Universes
    checkpoints: Checkpoints | None = None
    executor: str | None = None
    beat_s: float | None = None


def run_training(job_id: str, worker: str, context: WorkerContext, seconds_left: float = math.inf) -> JobEnd | None:
    """Claim a job and do its work; None where the job is already claimed or finished, or of another executor.

    Args:
        job_id: the job.
        worker: the name of this process, for the claim; no other process has or had it.
        context: stores, prices and clock.
        seconds_left: until this process is ended from outside; the fit stops early enough to store its best weights.

    Raises:
        JobNotFound: there is no such job.
        StoreUnavailable: the job cannot be read, claimed or ended within ``END_WITHIN_S``; another worker takes it
            up, or it will count as lost.
    """
    ends_at = time.monotonic() + seconds_left
    spec = _while_store_is_down(context.jobs.spec)(job_id)
    if context.executor is not None and not spec.is_for(context.executor):
        log.warning("job %s is for executor %r, not for %r; skipping", job_id, spec.executor, context.executor)
        return None
    if not _claim(spec, worker, context):
        log.info("job %s is already claimed or finished; skipping", job_id)
        return None
    end = _attempt(spec, _heartbeat(spec, context), context, ends_at)
    stands = _record_end(context.jobs, job_id, end)
    if not stands and end.state == "succeeded" and spec.kind == "training":
        _withdraw(spec.model_id, context.registry)  # declared lost meanwhile, and perhaps retried as another job
    log.info("job %s: %s", job_id, end.state if stands else "ended by another process")
    return end


def _attempt(spec: JobSpec, heartbeat: Heartbeat, context: WorkerContext, ends_at: float) -> JobEnd:
    try:
        with heartbeat:  # nothing interrupts what follows it
            heartbeat.validate_wanted()
            if isinstance(spec.request, TrainRequest):
                result: TrainResult | BacktestResponse = _train(spec, spec.request, heartbeat, context, ends_at)
            else:
                result = _backtest(spec, spec.request, heartbeat, context)
            heartbeat.finish()
    except JobStopped:
        return cancelled_end(spec.id, context.clock())
    except AppError as error:
        return JobEnd(state="failed", at=context.clock(), error=JobFailure.of(error))
    except Exception:  # the job must end, and its caller sees no more than that of a failed request
        log.exception("unexpected failure [job %s]", spec.id)
        opaque = AppError("unexpected failure; the server's log has the details under the job's id")
        return JobEnd(state="failed", at=context.clock(), error=JobFailure.of(opaque))
    return JobEnd(state="succeeded", at=context.clock(), result=result)


def _heartbeat(spec: JobSpec, context: WorkerContext) -> Heartbeat:
    if isinstance(spec.request, TrainRequest):
        return Heartbeat(context.jobs, spec.id, spec.request.epochs, context.clock, beat_s=context.beat_s)
    return Heartbeat(context.jobs, spec.id, 1, context.clock, phases=BACKTEST_PHASES, beat_s=context.beat_s)


def _backtest(
    spec: JobSpec, request: BacktestRequest, heartbeat: Heartbeat, context: WorkerContext
) -> BacktestResponse:
    heartbeat.phase("fetch")
    prepared = prepare_backtest(spec.model_id, request, context.registry, context.prices, context.clock())
    return run_backtest(prepared, lambda share: heartbeat.phase("backtest", share))


def _train(
    spec: JobSpec, request: TrainRequest, heartbeat: Heartbeat, context: WorkerContext, ends_at: float
) -> TrainResult:
    _remove_leftovers(context)
    universe = None if request.universe is None else context.universes.get(request.universe)
    model = train_model(
        request,
        context.prices,
        context.registry,
        spec.model_id,
        context.clock(),
        lambda epoch: heartbeat.epoch(epoch.validation_loss),
        universe=universe,
        fit_until=ends_at - _reserved_s(request, universe),
        on_progress=heartbeat.fit,
        checkpoints=context.checkpoints,
        on_phase=heartbeat.phase,
    )
    heartbeat.phase("publish")
    try:
        publish(model, heartbeat, context.registry, ends_at)
        if model.checkpoint is not None:
            model.checkpoint.remove()
        result = _with_evaluation(spec, request, model.card, heartbeat, context)
        heartbeat.seal()
        result = _named(result, request.alias, context)
    except JobStopped:
        _withdraw(spec.model_id, context.registry)
        raise
    return result


def _remove_leftovers(context: WorkerContext) -> None:
    try:
        removed = context.registry.remove_leftovers(context.clock())
    except AppError as error:  # another day will do
        log.warning("what crashes left of models was not removed: %s", error.message)
        return
    if removed:
        log.info("removed what crashes left of models: %s", ", ".join(removed))


def _reserved_s(request: TrainRequest, universe: Universe | None) -> float:
    if universe is not None:
        return RESERVED_S + RESERVED_PER_TICKER_OF_UNIVERSE_S * len(universe.tickers)
    return RESERVED_S + RESERVED_PER_TICKER_S * len(request.all_tickers)


def publish(model: TrainedModel, heartbeat: Heartbeat, registry: ModelRegistry, ends_at: float) -> None:
    """Store the model, retrying while the store is down; the heartbeat goes on meanwhile."""
    started = time.monotonic()
    while_down = Retrying(
        retry=retry_if_exception_type(StoreUnavailable),
        wait=wait_exponential(0.5, max=15.0),
        stop=stop_before_delay(min(PUBLISH_WITHIN_S, ends_at - END_WITHIN_S - started)),
        before_sleep=_log_failed_attempt,
        reraise=True,
    )
    try:
        for attempt in while_down:
            with attempt:
                heartbeat.validate_wanted()
                registry.publish(model.card, model.files)
    except StoreUnavailable as error:
        minutes = (time.monotonic() - started) / 60
        raise StoreUnavailable(
            f"the trained model {model.card.model_id!r} is lost: storing it failed for {minutes:.0f} minutes, "
            f"last because {error.message}",
            retry_after_s=error.retry_after_s,
            model_id=model.card.model_id,
        ) from error


def _log_failed_attempt(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.warning("the model was not stored, next attempt in %.1f s: %s", state.upcoming_sleep, error)


def _with_evaluation(
    spec: JobSpec, request: TrainRequest, card: ModelCard, heartbeat: Heartbeat, context: WorkerContext
) -> TrainResult:
    """The result, with the evaluation against an alias where one is requested; its failure does not fail the job."""
    result = train_result(card)
    if request.promote_to is None:
        return result
    heartbeat.phase("evaluate")
    try:
        position = context.jobs.family_position(spec)
        challenger = Challenger(request.promote_to, spec.id, card, context.clock(), position)
        evaluation = evaluate_challenger(
            challenger, context.registry, context.prices, context.universes, heartbeat.seal
        )
    except AppError as error:
        log.warning("evaluation of job %s: %s", spec.id, error.message)
        warning = f"the evaluation for {request.promote_to!r} failed, the alias was not moved: {error.message}"
        return result.model_copy(update={"warnings": (*result.warnings, warning)})
    return result.model_copy(update={"evaluation": evaluation})


_while_store_is_down = retry(
    retry=retry_if_exception_type(StoreUnavailable),
    wait=wait_exponential(0.5, max=4),
    stop=stop_after_delay(END_WITHIN_S),
    reraise=True,
)


@_while_store_is_down
def _claim(spec: JobSpec, worker: str, context: WorkerContext) -> bool:
    """Claim the job; an earlier attempt whose answer was lost may have done so."""
    return context.jobs.claim(spec, worker, context.clock()) or context.jobs.is_claimed_by(spec.id, worker)


@_while_store_is_down
def _record_end(jobs: Jobs, job_id: str, end: JobEnd) -> bool:
    return jobs.end(job_id, end)


def _named(result: TrainResult, alias: str | None, context: WorkerContext) -> TrainResult:
    """The result, with the alias that the request asks for; a model that could not be named is still a success."""
    if alias is None:
        return result
    try:
        _move_alias(alias, result.id, context)
    except AppError as error:
        log.warning("naming model %s: %s", result.id, error.message)
        warning = f"the model was not named {alias!r}: {error.message}"
        return result.model_copy(update={"warnings": (*result.warnings, warning)})
    return result.model_copy(update={"alias": alias})


@_while_store_is_down
def _move_alias(alias: str, model_id: str, context: WorkerContext) -> None:
    context.registry.move_alias(alias, model_id, context.clock())


def _withdraw(model_id: str, registry: ModelRegistry) -> None:
    try:
        _delete(model_id, registry)
    except StoreUnavailable as error:
        log.warning("model %s could not be withdrawn: %s", model_id, error.message)


@_while_store_is_down
def _delete(model_id: str, registry: ModelRegistry) -> None:
    """Delete the model, or those of its files that were stored before its card."""
    try:
        registry.delete(model_id)
    except ModelNotFound:
        for key in registry.store.list_keys(model_key(model_id, "")):
            registry.store.delete(key)
    except ModelInUse:
        log.warning("model %s is kept: an alias points to it", model_id)
