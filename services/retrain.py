"""Train a challenger for an alias if its model no longer fits a ticker."""

from datetime import datetime

from schemas.retrain import RetrainAnswer, RetrainRequest
from schemas.train import TrainRequest
from services.jobs.executor import Executor
from services.jobs.job import Jobs
from services.monitoring.drift import drift
from services.prices.series import PriceSource
from services.storage.registry import ModelRegistry, ticker_alias
from services.storage.store import ArtifactStore
from services.training.submission import submit_training


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
