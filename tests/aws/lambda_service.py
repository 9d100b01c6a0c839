"""Lambda's front door for asynchronous invocations: takes an event, answers 202, and hands it to an emulator."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection

from tests.processes import QuietHandler, serving

INVOKE_TIMEOUT_S = 300.0


class _Door(QuietHandler):
    emulator: tuple[str, int]
    workers: ThreadPoolExecutor

    def do_POST(self) -> None:  # noqa: N802 - named by http.server
        event = self.rfile.read(int(self.headers["Content-Length"]))
        asynchronous = self.headers["X-Amz-Invocation-Type"] == "Event" and self.path.endswith("/invocations")
        if asynchronous:
            self.workers.submit(_invoke, self.emulator, event)
        self.send_response(202 if asynchronous else 501)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _invoke(emulator: tuple[str, int], event: bytes) -> None:
    connection = HTTPConnection(*emulator, timeout=INVOKE_TIMEOUT_S)
    try:
        connection.request("POST", "/2015-03-31/functions/function/invocations", event)
        connection.getresponse().read()
    finally:
        connection.close()


@contextmanager
def lambda_service(emulator: tuple[str, int], port: int = 0, host: str = "127.0.0.1") -> Iterator[str]:
    """Its URL, for ``AWS_ENDPOINT_URL_LAMBDA``; events are handed over one at a time, as to a function of one instance.

    Args:
        emulator: host and port where the emulator of the function listens.
        port: where to listen; by default a free one.
        host: on which interface.
    """
    with ThreadPoolExecutor(1) as workers:
        door = type("Door", (_Door,), {"emulator": emulator, "workers": workers})
        with serving(door, host, port) as url:
            yield url
