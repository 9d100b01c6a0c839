"""The webhook of a training, a backtest or a run: its options, how far it is, and the wait for its first attempt."""

import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from cli.layout import to_minute
from cli.output import echo
from cli.target import Target
from stock_forecast_client import StockForecastError
from stock_forecast_client.models import Job, Run, WebhookStatus
from stock_forecast_client.requests import Webhook

FIRST_ATTEMPT_S = 20.0  # a receiver may take 15 s
POLL_S = 0.1

WorkT = TypeVar("WorkT", Job, Run)

WebhookUrl = Annotated[
    str | None,
    typer.Option("--webhook", metavar="URL", help="Send a POST request to this https address at the end."),
]
WebhookSecret = Annotated[
    str | None,
    typer.Option(
        "--webhook-secret",
        metavar="SECRET",
        envvar="STOCK_FORECAST_WEBHOOK_SECRET",
        help="Sign that request: whsec_ and 24 to 64 bytes in base64. Without it, anyone can send one.",
    ),
]


def webhook_of(context: typer.Context, url: str | None, secret: str | None) -> Webhook | None:
    """The field ``webhook`` of a request.

    Raises:
        BadParameter: a secret was given as an option, without an address.
    """
    if url is not None:
        return {"url": url} if secret is None else {"url": url, "secret": secret}
    source = context.get_parameter_source("webhook_secret")
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("--webhook-secret needs --webhook")
    return None


def webhook_rows(webhook: WebhookStatus | None) -> list[tuple[str, str]]:
    """The row of a table about a job or a run."""
    return [] if webhook is None else [("webhook", _how_far(webhook))]


def once_announced(ended: WorkT, read: Callable[[], WorkT], target: Target) -> WorkT:
    """The job or the run after the first attempt to announce its end, which a server makes by itself."""
    if not target.is_local or ended.webhook is None:
        return ended
    deadline = time.monotonic() + FIRST_ATTEMPT_S
    while _is_under_way(ended.webhook) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        try:
            ended = read()
        except StockForecastError:  # the work itself is over, and its end is known
            break
    if ended.webhook is not None and ended.webhook.state in ("waiting", "retrying"):
        echo(f"webhook {_how_far(ended.webhook)}; only a server with the same store tries again")
    return ended


def _is_under_way(webhook: WebhookStatus | None) -> bool:
    return webhook is not None and webhook.state in ("waiting", "retrying") and webhook.last_error is None


def _how_far(webhook: WebhookStatus) -> str:
    if webhook.state == "delivered":
        return f"delivered to {webhook.host}"
    if webhook.state == "given_up":
        return f"given up: {webhook.last_error}"
    if webhook.last_error is None:
        return f"not delivered yet to {webhook.host}"
    at = "" if webhook.next_attempt_at is None else f"; next attempt {to_minute(webhook.next_attempt_at)} UTC"
    return f"not delivered: {webhook.last_error}{at}"
