"""Where a command runs: on a server, or in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer
from pydantic import ValidationError

from stock_forecast_client import Client
from stock_forecast_client.errors import InvalidRequest

if TYPE_CHECKING:
    from config import Settings


class InvalidSettings(InvalidRequest, code="invalid_settings"):
    """A setting in the environment or in ``.env`` has a wrong value."""


@dataclass(frozen=True)
class Target:
    """The options before the command; without ``url``, this process does the work."""

    url: str | None = None
    api_key: str | None = None
    verbose: bool = False

    @property
    def is_local(self) -> bool:
        return self.url is None

    @contextmanager
    def client(self, **settings: object) -> Iterator[Client]:
        """A client of the target; for this process, ``settings`` override the environment."""
        configure_log(verbose=self.verbose)
        if self.url is not None:
            with Client(self.url, api_key=self.api_key) as client:
                yield client
            return
        from cli.inline import local_client  # the server's modules take a second to import

        quiet = (
            {} if self.verbose else {"log_level": "error"}
        )  # of the processes of a run, which write to this terminal
        with local_client(local_settings(**quiet | settings)) as client:
            yield client

    def validate_local(self, command: str) -> None:
        """Raise ``BadParameter`` if the command has a ``--url`` but runs only in this process."""
        if not self.is_local:
            raise typer.BadParameter(f"{command} runs in this process: omit --url and STOCK_FORECAST_URL")


def local_settings(**replaced: object) -> "Settings":
    """The settings of this process. Error messages never contain their values, because one may be a key.

    Raises:
        InvalidSettings: a setting has a wrong value.
    """
    from config import Settings, faults_of, prepare_environment

    prepare_environment()
    try:
        return Settings().model_copy(update=replaced)
    except ValidationError as error:
        raise InvalidSettings("; ".join(f"{name}: {fault}" for name, fault in faults_of(error))) from None


def configure_log(*, verbose: bool) -> None:
    """Show the log, or only errors in the one line that the command prints."""
    root = logging.getLogger()
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    elif not root.handlers:
        root.addHandler(logging.NullHandler())


def target_of(context: typer.Context) -> Target:
    target = context.find_object(Target)
    assert target is not None  # noqa: S101 - the callback of the application makes one
    return target
