"""Does the work of one job, or of a piece of a run: in a process of its own, ``python worker.py ID``, or on Lambda.

``python worker.py --forked KIND`` imports what this kind of work needs, one of ``IMPORTS``, and is then forked for each
job that it gets (``services.jobs.fork_server``).

On Lambda it also works on a schedule: ``{"task": "score"}`` scores closed sessions and deletes what is too old,
``{"task": "retrain", "limit": 5}`` trains challengers for the five worst drifted tickers, ``{"task": "forecast"}``
forecasts NIGHTLY_TICKERS and publishes the forecasts, or continues where the invocation before ran out of time, and
``{"task": "webhooks"}`` delivers the webhooks that are due.
"""

import atexit
import faulthandler
import gc
import logging
import math
import os
import secrets
import signal
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from bootstrap import FORKED, Runtime, WorkKind, worker_name
from config import Settings, prepare_environment
from errors import AppError, InvalidRequest
from services.jobs.aws_lambda import RUN, TRAIN
from services.jobs.fork_server import serve_forks
from services.jobs.job import record_end
from services.monitoring.scoring_run import run_scoring
from services.retention import forget_quietly
from services.retrain import retrain_drifted
from services.runs.coordinate import coordinate
from services.runs.pieces import Piece
from services.runs.work import work_chunk
from services.training.work import run_training
from telemetry.logs import configure_logging
from telemetry.measures import NO_METER

SCORE, RETRAIN, FORECAST, WEBHOOKS = "score", "retrain", "forecast", "webhooks"
TASKS = (TRAIN, RUN, SCORE, RETRAIN, FORECAST, WEBHOOKS)

SPARE_S = 90.0  # of an invocation, for the chunk in work when the time is up, and for publishing
EXIT_ON_SIGTERM = 128 + signal.SIGTERM
_BY_ALL = ("exchange_calendars", "models.runtime", "pandas", "scipy.optimize", "services.training.train")
IMPORTS: Mapping[WorkKind, tuple[str, ...]] = {
    "network": (*_BY_ALL, "models.lstm.lightning_module", "onnx", "torch.onnx"),
    "other": _BY_ALL,
}
"""Of what a kind of work imports, whatever takes a tenth of a second."""
NICENESS = 10  # requests on the same cores come first
# The import of torch leaves a million objects that stay. With the default, Python looks through the new ones every few
# hundred, which is a fifth of the processor time until the fit begins; 50,000 uses no more memory.
GC_THRESHOLD = (50_000, 20, 50)

log = logging.getLogger(__name__)


def handler(event: dict[str, Any], context: Any) -> None:
    """What AWS Lambda calls in the function that trains."""
    runtime = _runtime()
    try:
        on_event(runtime, event, context)
    finally:
        runtime.writer.flush()
        runtime.meter.flush()


@cache
def _runtime() -> Runtime:
    return Runtime.from_environment()


def is_task(event: Any) -> bool:
    """Whether a Lambda event is a job, or a scheduled task, rather than a request."""
    return isinstance(event, dict) and event.get("task") in TASKS


def on_event(runtime: Runtime, event: dict[str, Any], context: Any) -> None:
    """Do the task of an event of ``services.jobs.aws_lambda``, or of the template's schedule.

    Raises:
        InvalidRequest: the event names no task, or the task lacks its job, its piece of a run, or its limit.
    """
    if not is_task(event):
        expected = f"{', '.join(map(repr, TASKS[:-1]))} or {TASKS[-1]!r}"
        raise InvalidRequest(f"expected the task {expected}")
    _collect_seldom()
    if event["task"] == RUN:
        piece = Piece.parse(str(event.get("piece")))
        if piece is None:
            raise InvalidRequest("an event of a run names its piece")
        work_on_run(runtime, piece, context.get_remaining_time_in_millis() / 1000)
        return
    if event["task"] == SCORE:
        score(runtime)
        return
    if event["task"] == WEBHOOKS:
        runtime.announcements.deliver_due()
        return
    if event["task"] == FORECAST:
        forecast(runtime, context.get_remaining_time_in_millis() / 1000)
        return
    if event["task"] == RETRAIN:
        limit = event.get("limit")
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise InvalidRequest("a retraining event has a limit, the most trainings that it may start")
        retrain(runtime, limit)
        return
    job_id = event.get("job_id")
    if not isinstance(job_id, str):
        raise InvalidRequest("a training event names its job_id")
    work(runtime, job_id, context.get_remaining_time_in_millis() / 1000)


def _collect_seldom() -> None:
    if gc.get_threshold() < GC_THRESHOLD:
        gc.set_threshold(*GC_THRESHOLD)


def work(runtime: Runtime, job_id: str, seconds_left: float = math.inf) -> None:
    """Run the job, unless another worker has claimed it; failures are recorded in the job."""
    if run_training(job_id, worker_name(), runtime.worker_context, seconds_left) is not None:
        record_end(runtime.meter, runtime.jobs.status(job_id, runtime.clock()))
        runtime.announcements.deliver_job(job_id)


def work_on_run(runtime: Runtime, piece: Piece, seconds_left: float = math.inf) -> None:
    """Do the round or the chunk of a run, unless another worker has it."""
    context, worker = runtime.run_context(), worker_name()
    if piece.chunk is None:
        coordinate(piece, worker, context, runtime.run_prices, runtime.chunk_executor, seconds_left)
    else:
        work_chunk(piece, worker, context, seconds_left)
    # a coordinator of processes ends its workers, perhaps in the middle of a delivery, and then makes it itself; on
    # Lambda it may have ended before the last chunk
    if piece.chunk is None or runtime.run_engine == "lambda":
        runtime.announcements.deliver_run(piece.run_id, piece.round)


def score(runtime: Runtime) -> None:
    """Score all sessions that closed since the last run and delete what is too old, as ``POST /monitoring/score``."""
    now = runtime.clock()
    report = run_scoring(runtime.store, runtime.prices, runtime.registry, now, runtime.meter)
    log.info("%d pairs of %d sessions scored", report.n_pairs, report.n_sessions)
    for ticker in report.unscored:
        log.warning("%s was not scored: %s", ticker.ticker, ticker.detail)
    forget_quietly(runtime.store, runtime.caches, now, runtime.settings.retention_days)


def forecast(runtime: Runtime, seconds_left: float) -> None:
    """Forecast the tickers of the nightly run, one after the other, and publish once none is left.

    Raises:
        AppError: no ticker could be forecast; what was published before stays.
    """
    report = runtime.nightly.publish(runtime.clock(), max(0.0, seconds_left - SPARE_S))
    for ticker in report.failed:
        log.warning("%s has no forecast: %s", ticker.ticker, ticker.detail)
    made = f"{report.n_made} forecasts made, {report.n_kept} kept, {report.n_failed} failed"
    if report.n_left:
        log.warning("%s, %d left for the next invocation", made, report.n_left)
    elif report.published_at is not None:
        log.info("%s, and published", made)
    elif report.failed:
        first = report.failed[0]
        message = f"no ticker could be forecast: {first.detail}"
        raise AppError.restored(first.code, message) or AppError(message)
    else:
        log.warning("nothing to forecast: set NIGHTLY_TICKERS")


def retrain(runtime: Runtime, limit: int) -> None:
    """Train challengers for the worst drifted tickers, each in an invocation of its own."""
    retrain_drifted(
        limit,
        runtime.registry,
        runtime.prices,
        runtime.store,
        runtime.jobs,
        runtime.executor,
        runtime.clock(),
        lambda: secrets.token_hex(4),
    )


def main() -> None:
    """Work with the settings that arrive as JSON on standard input, or be forked."""
    faulthandler.enable()  # a crash in native code shows where it came from
    os.nice(NICENESS)
    _collect_seldom()
    atexit.register(gc.freeze)  # else Python looks through all objects several times before it ends
    prepare_environment()
    if sys.argv[1] != FORKED:
        work_on(sys.argv[1], sys.stdin.buffer.read())
    else:
        for module in IMPORTS[cast(WorkKind, sys.argv[2])]:
            if find_spec(module.partition(".")[0]) is not None:  # an installation may lack scipy or torch
                import_module(module)
        gc.freeze()  # else the first collection in each fork would copy the memory of what was imported
        serve_forks(work_on)


def work_on(name: str, settings_json: bytes) -> None:
    """Work in this process on the job of this id, or on the piece of a run."""
    settings = Settings.model_validate_json(settings_json)
    configure_logging(settings.logs_as, settings.log_level)
    runtime = Runtime.from_settings(settings, meter=NO_METER)
    piece = Piece.parse(name)
    if piece is None:
        work(runtime, name)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has started the run decides what an interruption means
    signal.signal(signal.SIGTERM, _end)  # a coordinator ends its workers
    work_on_run(runtime, piece)


def _end(*_: object) -> None:
    raise SystemExit(EXIT_ON_SIGTERM)


if __name__ == "__main__":
    main()
