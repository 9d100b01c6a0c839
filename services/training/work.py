"""What a worker does with a job: claim it, train, publish, and tell how it ended."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from errors import AppError, ModelInUse, ModelNotFound, StoreUnavailable
from models.fitting import Epoch
from schemas.card import ModelCard
from schemas.job import JobEnd, JobSpec
from schemas.train import TrainResult
from services.jobs.heartbeat import Heartbeat, JobStopped
from services.jobs.job import Jobs, cancelled_end, job_failure
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry
from services.training.challenge import Challenger, evaluate_challenger
from services.training.train import publish, train_model, train_result

TELL_WITHIN_S = 15.0  # a store that is back by then hears of the end before the job counts as lost

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class WorkerContext:
    """What a worker works with.

    Attributes:
        jobs: where the job is kept and its progress told.
        prices: what is learned from.
        registry: where the model goes.
        rescue: where it goes when the registry's store fails.
        clock: tells the time.
    """

    jobs: Jobs
    prices: PriceSource
    registry: ModelRegistry
    rescue: ModelRegistry
    clock: Callable[[], datetime]


def run_training(job_id: str, worker: str, place: WorkerContext, fit_until: float = math.inf) -> JobEnd | None:
    """How the job ended; None when it is another worker's, or over.

    Args:
        job_id: the job.
        worker: who we are.
        place: what we work with.
        fit_until: ``time.monotonic()`` at which the fit stops with the best weights so far.

    Raises:
        JobNotFound: there is no such job.
        StoreUnavailable: the store is down, before the work or at its end; the job will count as lost.
    """
    order = place.jobs.order(job_id)
    if not place.jobs.claim(job_id, worker, place.clock()):
        log.info("job %s is already claimed or finished; skipping", job_id)
        return None
    with Heartbeat(place.jobs, job_id, order.request.epochs, place.clock) as heartbeat:
        end = _attempt(order, heartbeat, place, fit_until)
    stands = _tell(place.jobs, job_id, end)
    if not stands and end.state == "succeeded":
        _withdraw(order.model_id, place.registry)  # somebody gave us up meanwhile, and may have begun again
    log.info("job %s: %s", job_id, end.state if stands else "given up by others")
    return end


def _attempt(order: JobSpec, heartbeat: Heartbeat, place: WorkerContext, fit_until: float) -> JobEnd:
    try:
        result = _train(order, heartbeat, place, fit_until)
    except JobStopped:
        return cancelled_end(order.id, place.clock())
    except AppError as error:
        return JobEnd(state="failed", at=place.clock(), error=job_failure(error))
    except Exception:  # the job must end, and whoever waits be told no more than a caller would
        log.exception("unexpected failure [job %s]", order.id)
        opaque = AppError("something failed on our side; the job's id finds it in our log")
        return JobEnd(state="failed", at=place.clock(), error=job_failure(opaque))
    return JobEnd(state="succeeded", at=place.clock(), result=result)


def _train(order: JobSpec, heartbeat: Heartbeat, place: WorkerContext, fit_until: float) -> TrainResult:
    def on_epoch(epoch: Epoch) -> None:
        heartbeat.epoch(epoch.validation_loss)

    heartbeat.validate_wanted()
    now = place.clock()
    model = train_model(order.request, place.prices, place.registry, order.model_id, now, on_epoch, fit_until)
    heartbeat.validate_wanted()
    publish(model, place.registry, place.rescue)
    return _evaluated(order, model.card, place)


def _evaluated(order: JobSpec, card: ModelCard, place: WorkerContext) -> TrainResult:
    """The result, with the evaluation where ``promote_to`` names an alias; a failed evaluation fails no training."""
    result = train_result(card)
    if order.request.promote_to is None:
        return result
    try:
        challenger = Challenger(order.request.promote_to, order.id, card, place.clock())
        evaluation = evaluate_challenger(challenger, place.registry, place.prices)
    except AppError as error:
        log.warning("evaluation of job %s: %s", order.id, error.message)
        failed = f"the evaluation for {order.request.promote_to!r} failed, the alias was not moved: {error.message}"
        return result.model_copy(update={"warnings": (*result.warnings, failed)})
    return result.model_copy(update={"evaluation": evaluation})


@retry(
    retry=retry_if_exception_type(StoreUnavailable),
    wait=wait_exponential(0.5, max=4),
    stop=stop_after_delay(TELL_WITHIN_S),
    reraise=True,
)
def _tell(jobs: Jobs, job_id: str, end: JobEnd) -> bool:
    return jobs.end(job_id, end)


def _withdraw(model_id: str, registry: ModelRegistry) -> None:
    try:
        registry.delete(model_id)
    except ModelNotFound:
        log.info("model %s was withdrawn by somebody else", model_id)
    except ModelInUse:
        log.warning("model %s is kept: an alias stands for it", model_id)
