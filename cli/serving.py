"""The command that serves the API."""

import socket
from typing import Annotated

import typer

from cli.options import given
from cli.target import local_settings, target_of
from stock_forecast_client.errors import Conflict


class AddressNotFree(Conflict, code="address_not_free"):
    """The address is in use, reserved, or not one of this machine."""


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; HOST by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; PORT by default.")] = None,
) -> None:
    """Serve the API and the page, as `make run` does."""
    target_of(context).validate_local("serve")
    chosen = given(host=host, port=port)
    settings = local_settings(**chosen)
    validate_free(settings.host, settings.port)
    from app import run_server

    run_server(**chosen)


def validate_free(host: str, port: int) -> None:
    """Check the address before the server loads a model and logs the failure.

    Raises:
        AddressNotFree: the address cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does: one may just have ended
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise AddressNotFree(f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}") from None
