"""Train a challenger for an alias if its model no longer fits a ticker, or for every ticker whose model does not."""

import logging
from collections.abc import Callable
from datetime import datetime

from errors import AppError, TooManyRequests
from schemas.job import Job
from schemas.retrain import RetrainAnswer, RetrainRequest
from schemas.train import TrainRequest
from services.jobs.executor import Executor
from services.jobs.job import Jobs
from services.monitoring.drift import drift, drift_overview
from services.monitoring.realised import tickers_scored
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry, ticker_alias
from services.storage.store import ArtifactStore
from services.training.submission import submit_training

log = logging.getLogger(__name__)


def retrain_drifted(
    limit: int,
    registry: ModelRegistry,
    prices: PriceSource,
    store: ArtifactStore,
    jobs: Jobs,
    executor: Executor,
    now: datetime,
    token: Callable[[], str],
) -> tuple[Job, ...]:
    """The jobs that train challengers for the worst drifted tickers, ``limit`` at most.

    Until there are newer sessions, the same call returns the same jobs. A ticker that fails is logged and skipped; a
    full queue leaves the rest for the next night.

    Raises:
        StoreUnavailable: from the store.
    """
    overview = drift_overview(registry, None, tickers_scored(store), prices, store, now)
    drifted = [report.ticker for report in overview.reports if report.status == "drifted"]
    submitted = []
    for ticker in drifted[:limit]:
        request = RetrainRequest(ticker=ticker)
        try:
            answer = retrain(request, registry, prices, store, jobs, executor, now, token())
        except TooManyRequests as error:
            log.warning("%s and later tickers were not retrained: %s", ticker, error.message)
            break
        except AppError as error:
            log.warning("%s was not retrained: %s", ticker, error.message)
            continue
        submitted += [answer.job] if answer.job is not None else []
    log.info("%d of %d drifted tickers are being retrained", len(submitted), len(drifted))
    return tuple(submitted)


def retrain(
    request: RetrainRequest,
    registry: ModelRegistry,
    prices: PriceSource,
    store: ArtifactStore,
    jobs: Jobs,
    executor: Executor,
    now: datetime,
    token: str,
) -> RetrainAnswer:
    """The drift status of the model of the alias and, where it has drifted, the job that trains a challenger.

    The alias is the ticker's own unless the request names another: a model of one ticker answers for that ticker.
    Until there is a newer session, the same call returns the same job.

    Raises:
        InsufficientHistory: too few sessions for a drift status.
        TickerNotFound, UpstreamUnavailable: from the price source.
        ModelNotFound, ArtifactCorrupt, ArtifactTooNew: the model of the alias.
        IdempotencyKeyReused: the alias was moved today to a model of another target column.
        TrainingCapacityExceeded, TrainerUnavailable: no worker is free; nothing is left behind.
    """
    alias = request.alias or ticker_alias(request.ticker)
    champion = registry.card(alias)
    report = drift(champion, prices.history(request.ticker, now), store, now)
    job = None
    if report.status == "drifted" or not request.only_on_drift:
        order = TrainRequest(ticker=request.ticker, target_column=champion.target_column, promote_to=alias)
        key = f"retrain {request.ticker} {alias} {report.as_of}"  # no caller's Idempotency-Key may have blanks
        job = submit_training(order, jobs, executor, now, token, key)
    return RetrainAnswer(status=report.status, reasons=report.reasons, job=job)
