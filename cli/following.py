"""Wait for the end of a job or a run that this process has started."""

from collections.abc import Callable
from contextlib import suppress

import typer

from cli.output import echo
from cli.target import Target, target_of
from cli.webhooks import WorkT
from stock_forecast_client import StockForecastError


def waiting_target(context: typer.Context, *, no_wait: bool) -> Target:
    """The target; ``BadParameter`` for ``--no-wait`` if the work would end with this process."""
    target = target_of(context)
    if no_wait and target.is_local:
        raise typer.BadParameter("--no-wait needs --url: work in this process ends with it")
    return target


def follow_or_cancel(
    follow: Callable[[], WorkT], cancel: Callable[[], object], *, cancels: bool, cancelling: str, continuing: str
) -> WorkT:
    """Wait for the end. Ctrl-C cancels the work first, where ``cancels``; one of the two texts says which."""
    try:
        return follow()
    except KeyboardInterrupt:
        echo(cancelling if cancels else continuing)
        if cancels:
            with suppress(StockForecastError):  # it is over, or the store is down: this process ends in any case
                cancel()
                follow()
        raise
