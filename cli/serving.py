"""The command that serves the API."""

from typing import Annotated

import typer

from cli.options import given
from cli.target import target_of
from config import Settings


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; HOST by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on; PORT by default.")] = None,
) -> None:
    """Serve the API, as `make run` does."""
    target_of(context).require_local("serve")
    settings = Settings().model_copy(update=given(host=host, port=port))
    import uvicorn

    from app import create_app  # sets up the log, as a server's is

    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_config=None)
