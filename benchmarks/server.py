"""A fresh server process, as a user would start it, to measure from outside."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, Protocol

from tests.processes import free_port

START_TIMEOUT_S = 60


@contextmanager
def running_server(settings: Mapping[str, str], command: Sequence[str] = (sys.executable, "app.py")) -> Iterator[str]:
    """The base URL of the command on a free port, with these settings in its environment."""
    with server_process(settings, command) as (url, _):
        yield url


@contextmanager
def server_process(
    settings: Mapping[str, str], command: Sequence[str] = (sys.executable, "app.py"), log: IO[bytes] | None = None
) -> Iterator[tuple[str, int]]:
    """The same, with the id of the process; ``log`` gets what it prints."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command,
        env={**os.environ, **settings, "HOST": "127.0.0.1", "PORT": str(port)},
        stdout=log or subprocess.DEVNULL,
        stderr=log or subprocess.DEVNULL,
    )
    try:
        wait_until_up(url, process)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def post(url: str, body: Mapping[str, object]) -> Any:
    """The JSON answer to a JSON body; an error status raises."""
    request = urllib.request.Request(  # noqa: S310 - our own server
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - our own server
        return json.load(answer)


class Process(Protocol):
    """What of a ``Popen`` the wait for a server reads."""

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...


def wait_until_up(url: str, process: Process, within_s: float = START_TIMEOUT_S) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        try:
            urllib.request.urlopen(f"{url}/up").close()  # noqa: S310 - our own server
        except urllib.error.URLError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"no answer from {url} within {within_s} s")
