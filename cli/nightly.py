"""Commands for every night: nightly, forget."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli.latest import failures
from cli.layout import counted
from cli.options import Form
from cli.output import echo, show
from cli.realised_tables import forget_table
from cli.target import Target, local_settings, target_of
from stock_forecast_client import Client, StockForecastError
from stock_forecast_client.errors import error_from
from stock_forecast_client.models import Job, TrainResult

POLL_S = 30.0  # between two looks at the clock, which may be set meanwhile
LONGEST_NIGHT = timedelta(hours=6)
MOST_WAITS, LONGEST_WAIT_S = 3, 900  # while the price source limits requests

log = logging.getLogger(__name__)

Say = Callable[[str], None]


def forget(context: typer.Context, form: Form = None) -> None:
    """Delete forecasts, scores, jobs and caches older than RETENTION_DAYS; never a model."""
    with target_of(context).client() as client:
        show(client.forget(), forget_table, form)


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
    """Fetch prices, score past forecasts, check drift, retrain what drifted, forecast NIGHTLY_TICKERS and publish.

    For cron, or with --every-day-at as a service of its own. A run that died is simply run again: what is done costs
    nothing twice.
    """
    target = target_of(context)
    if every_day_at is None:
        night(target, max_retrainings, partial(echo, stderr=False))
        return
    from clock import utc_now
    from telemetry.logs import configure_logging

    settings = local_settings()
    configure_logging(settings.logs_as, settings.log_level)
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
    """One run, phase by phase. What fails, a ticker or a phase, is reported and keeps nothing else from being done.

    Raises:
        StockForecastError: the error of the first phase that failed as a whole.
    """
    failed: list[StockForecastError] = []

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except StockForecastError as error:
            say(f"{name} failed: {error}")
            failed.append(error)
        else:
            say(f"{name} took {time.monotonic() - started:.1f} s")

    drifted: list[str] = []
    with target.client() as client:
        with phase("fetching"):
            fetch_prices(client, say)
        with phase("scoring and drift"):
            drifted = _scored(client, say)
        if drifted[:max_retrainings]:
            with phase("retraining"):
                for ticker in drifted[:max_retrainings]:
                    say(f"{ticker}: {_retrained(client, ticker)}")
        with phase("forecasting"):
            publish_forecasts(client, say)
    if failed:
        raise failed[0]


def fetch_prices(client: Client, say: Say) -> None:
    """Fetch the prices of all nightly tickers; while the source limits requests, wait as long as it says."""
    report = client.fetch_nightly_prices()
    n_fetched, n_waits = report.n_fetched, 0
    while True:
        for one in report.failed:
            say(f"no prices of {one.ticker}: {one.code}: {one.detail}")
        if report.next_after is None:
            break
        if report.retry_after_s is not None:
            n_waits = 0 if report.n_fetched else n_waits + 1
            wait_s = report.retry_after_s * 2**n_waits
            if n_waits > MOST_WAITS or wait_s > LONGEST_WAIT_S:
                say("prices are rate-limited: going on without the newest of the other tickers")
                break
            say(f"prices are rate-limited: waiting {wait_s} s")
            time.sleep(wait_s)
        report = client.fetch_nightly_prices(report.next_after or None)
        n_fetched += report.n_fetched
    if n_fetched:
        say(f"fetched the prices of {counted(n_fetched, 'ticker')}")


def _scored(client: Client, say: Say) -> list[str]:
    """Score what has closed, which also deletes what is too old; returns the drifted tickers, the worst first."""
    report = client.score()
    say(f"scored {counted(report.n_pairs, 'forecast')} of {counted(report.n_sessions, 'session')}")
    for one in report.unscored:
        say(f"{one.ticker} was not scored{f' for {one.session}' if one.session else ''}: {one.detail}")
    if report.drift is None:
        say("drift: unknown, because the default model cannot be read")
    else:
        found = report.drift
        say(f"drift: {found.ok} ok, {found.warning} warning, {found.drifted} drifted, {found.unknown} unknown")
    return report.drifted


def publish_forecasts(client: Client, say: Say) -> None:
    """Forecast all nightly tickers and publish the forecasts.

    Raises:
        StockForecastError: no ticker could be forecast; what was published before stays.
    """
    report = client.publish_forecasts()
    while report.n_left:
        say(f"{report.n_tickers - report.n_left} of {counted(report.n_tickers, 'ticker')} forecast")
        report = client.publish_forecasts()
    for text in failures(report.failed):
        say(text)
    if report.published_at is not None:
        n_made = report.n_tickers - report.n_failed
        say(f"published the forecasts of {counted(n_made, 'ticker')}; {report.n_failed} failed")
    elif report.failed:
        first = report.failed[0]
        raise error_from(first.code, f"no ticker could be forecast: {first.detail}", first.status)
    else:
        say("nothing to forecast: set NIGHTLY_TICKERS")


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
