"""Commands for every night: nightly, forget."""

import logging
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from typing import Annotated

import typer

from cli.layout import counted
from cli.options import AsJson
from cli.output import show
from cli.realised_tables import forget_table
from cli.target import Target, local_settings, target_of
from stock_forecast_client import Client, StockForecastError
from stock_forecast_client.models import DriftOverview, Job, TrainResult

POLL_S = 30.0  # between two looks at the clock, which may be set meanwhile
LONGEST_NIGHT = timedelta(hours=6)

log = logging.getLogger(__name__)

Say = Callable[[str], None]


def forget(context: typer.Context, as_json: AsJson = False) -> None:
    """Delete forecasts, scores, jobs and caches older than RETENTION_DAYS; never a model."""
    with target_of(context).client() as client:
        show(client.forget(), forget_table, as_json=as_json)


def _time_of_day(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise typer.BadParameter(f"expected a time such as 23:30, found {text!r}")
    return text


def nightly(
    context: typer.Context,
    max_retrainings: Annotated[int, typer.Option(min=0, max=1000, help="Most drifted tickers to retrain.")] = 5,
    every_day_at: Annotated[
        str | None,
        typer.Option(callback=_time_of_day, metavar="HH:MM", help="Run now, then every day at this time in UTC."),
    ] = None,
    alive_file: Annotated[
        Path | None,
        typer.Option(help="With --every-day-at: a file whose time is in the future while the loop works."),
    ] = None,
) -> None:
    """Score past forecasts, delete what is too old, check drift, retrain what drifted.

    For cron, or with --every-day-at as a service of its own. Running it twice changes nothing.
    """
    target = target_of(context)
    if every_day_at is None:
        night(target, max_retrainings, typer.echo)
        return
    from clock import utc_now
    from telemetry.logs import configure_logging

    configure_logging(local_settings().logs_as)
    at = time_of_day.fromisoformat(every_day_at)
    while True:
        sign_of_life(alive_file, LONGEST_NIGHT)
        try:
            night(target, max_retrainings, log.info)
        except StockForecastError as error:  # the next night tries again
            log.error("the night failed: %s", error)  # noqa: TRY400 - no traceback
        due = next_time(at, utc_now())
        log.info("next run at %s", due)
        while (left_s := (due - utc_now()).total_seconds()) > 0:
            sign_of_life(alive_file, timedelta(seconds=4 * POLL_S))
            time.sleep(min(left_s, POLL_S))


def night(target: Target, max_retrainings: int, say: Say) -> None:
    """One run. A ticker that fails is reported, and does not keep others from being retrained.

    Raises:
        StockForecastError: scoring or drift failed as a whole.
    """
    with target.client() as client:
        report = client.score()  # which also deletes what is too old
        say(f"scored {counted(report.n_pairs, 'forecast')} of {counted(report.n_sessions, 'session')}")
        for one in report.unscored:
            say(f"{one.ticker} was not scored{f' for {one.session}' if one.session else ''}: {one.detail}")
        overview = client.drift()
        say(f"drift: {_by_status(overview)}")
        for ticker in drifted(overview)[:max_retrainings]:
            say(f"{ticker}: {_retrained(client, ticker)}")


def drifted(overview: DriftOverview) -> list[str]:
    """The drifted tickers, the worst first as the API sorts them."""
    return [report.ticker for report in overview.reports if report.status == "drifted"]


def next_time(at: time_of_day, now: datetime) -> datetime:
    """The next time of day, in UTC, after ``now``."""
    today = datetime.combine(now.astimezone(UTC).date(), at, UTC)
    return today if today > now else today + timedelta(days=1)


def sign_of_life(file: Path | None, lasts: timedelta) -> None:
    """Set the file's time to when the next sign is due at the latest."""
    if file is not None:
        from clock import utc_now

        file.touch()
        until = (utc_now() + lasts).timestamp()
        os.utime(file, (until, until))


def _by_status(overview: DriftOverview) -> str:
    statuses = [report.status for report in overview.reports]
    parts = [f"{statuses.count(status)} {status}" for status in ("ok", "warning", "drifted")]
    return ", ".join([*parts, f"{len(overview.unjudged)} unknown"])


def _retrained(client: Client, ticker: str) -> str:
    try:
        job = client.retrain(ticker=ticker).job
        return "not retrained: it has no drift any more" if job is None else _outcome(client.follow(job.id))
    except StockForecastError as error:
        return f"not retrained: {error}"


def _outcome(job: Job) -> str:
    if not isinstance(job.result, TrainResult):
        return f"job {job.id} {job.state}" + ("" if job.error is None else f": {job.error.detail}")
    evaluation = job.result.evaluation
    won = evaluation is not None and evaluation.won
    return f"trained {job.model_id}, which {'is now its model' if won else 'is no better than its model'}"
