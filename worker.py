"""Trains the model of one job: in a process of its own, ``python worker.py JOB_ID``, or in a Lambda invocation.

On Lambda it also scores what has closed, when a schedule says so: ``{"task": "score"}``.
"""

import logging
import math
import os
import socket
import sys
from typing import Any

from clock import Clock, utc_now
from config import Settings, artifact_store, default_model, prepare_environment, price_source
from errors import InvalidRequest
from services.jobs.aws_lambda import TRAIN
from services.jobs.job import Jobs, record_end
from services.monitoring.scoring import score_due
from services.storage.registry import ModelRegistry
from services.training.work import WorkerContext, run_training
from telemetry.logs import configure_logging
from telemetry.measures import NO_METER, Meter

SCORE = "score"

NICENESS = 10  # whoever answers requests on the same cores comes first

log = logging.getLogger(__name__)


def work(
    settings: Settings, job_id: str, *, clock: Clock = utc_now, seconds_left: float = math.inf, meter: Meter = NO_METER
) -> None:
    """Take the job, unless another worker has; what goes wrong with it is told in the job.

    Args:
        settings: which store, which prices.
        job_id: the job.
        clock: tells the time.
        seconds_left: after which this process is ended by others.
        meter: told how the job ended.
    """
    store = artifact_store(settings)
    jobs = Jobs(store)
    registry = ModelRegistry(store, default_model(settings))
    context = WorkerContext(jobs, price_source(settings), registry, clock)
    if run_training(job_id, f"{socket.gethostname()}:{os.getpid()}", context, seconds_left) is not None:
        record_end(meter, jobs.status(job_id, clock()))


def score(settings: Settings, *, clock: Clock = utc_now, meter: Meter = NO_METER) -> None:
    """Score every forecast whose session has closed since the last time, as ``POST /monitoring/score`` does."""
    store, now = artifact_store(settings), clock()
    report = score_due(store, price_source(settings), now, meter)
    log.info("%d pairs of %d sessions scored", report.n_pairs, report.n_sessions)
    for ticker in report.unscored:
        log.warning("%s was not scored: %s", ticker.ticker, ticker.detail)


def is_task(event: Any) -> bool:
    """Whether a Lambda event is a job, or something to do on a schedule, rather than a request."""
    return isinstance(event, dict) and event.get("task") in (TRAIN, SCORE)


def on_event(settings: Settings, event: dict[str, Any], context: Any, meter: Meter) -> None:
    """What the trainer function does with an event of ``services.jobs.aws_lambda``, or of the template's schedule."""
    if event["task"] == SCORE:
        score(settings, meter=meter)
        return
    job_id = event.get("job_id")
    if not isinstance(job_id, str):
        raise InvalidRequest("a training event names its job_id")
    work(settings, job_id, seconds_left=context.get_remaining_time_in_millis() / 1000, meter=meter)


def main() -> None:
    """Train as the settings say that are written, as JSON, to standard input."""
    os.nice(NICENESS)
    prepare_environment()
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    configure_logging(settings.logs_as)
    work(settings, sys.argv[1])


if __name__ == "__main__":
    main()
