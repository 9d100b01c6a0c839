"""Whom a command talks to: a running service, or the same application in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import typer

from cli.inline import local_client
from client import Client
from config import Settings, prepare_environment


@dataclass(frozen=True)
class Target:
    """What the options before the command say.

    Attributes:
        url: a running service; None for this process.
        api_key: for that service.
        verbose: show the log.
    """

    url: str | None = None
    api_key: str | None = None
    verbose: bool = False

    @property
    def is_local(self) -> bool:
        """Whether this process does the work."""
        return self.url is None

    @contextmanager
    def client(self, **settings: object) -> Iterator[Client]:
        """A client of the target; ``settings`` take the place of those of the environment, in this process only."""
        configure_log(verbose=self.verbose)
        if self.url is not None:
            with Client(self.url, api_key=self.api_key) as client:
                yield client
            return
        prepare_environment()
        with local_client(Settings().model_copy(update=settings)) as client:
            yield client

    def validate_local(self, what: str) -> None:
        """Refuse what a service cannot be asked for.

        Raises:
            BadParameter: there is a ``--url``.
        """
        if not self.is_local:
            raise typer.BadParameter(f"{what} runs in this process: leave --url and STOCK_FORECAST_URL out")


def configure_log(*, verbose: bool) -> None:
    """Keep the log to ourselves, or show it: errors are told in one line of their own."""
    root = logging.getLogger()
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    elif not root.handlers:
        root.addHandler(logging.NullHandler())


def target_of(context: typer.Context) -> Target:
    """The target that the options before the command named."""
    target = context.find_object(Target)
    assert target is not None  # noqa: S101 - the callback of the application makes one
    return target
