"""Requests a second of the server, through its socket, with one process and with several.

    python -m benchmarks.serving [--processes 1 2] [--clients 8] [--seconds 8]

Each client keeps one connection and sends its next request once it has the whole answer. Every answer must have status
200, and some are compared with what the route promises. ``/predict`` gets other closes each time, so that nothing is
remembered; the other routes read cached prices. The clients share one process and no library: what it takes of the
cores is printed, because it has the same cores as the server.
"""

import argparse
import json
import selectors
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks.server import server_process

N_BODIES = 20_000  # of other closes each: more than any cache of the server keeps
WARM_UP_S = 2.0
SAMPLED = 50  # the content of one in so many answers is read
SYMBOL, DAYS = "^GSPC", 30
HEAD_END, LENGTH = b"\r\n\r\n", b"content-length: "


@dataclass(frozen=True)
class Case:
    """One kind of request, and whether an answer to it is right."""

    name: str
    requests: Sequence[bytes]
    is_right: Callable[[Any], bool]


@dataclass
class Load:
    """What the clients have measured."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    generator_s: float = 0.0
    server_s: float = 0.0

    @property
    def line(self) -> str:
        p50, p99 = 1000 * np.percentile(self.latencies, [50, 99])
        n = len(self.latencies)
        speed = f"{n / self.seconds:6.0f} requests/s, p50 {p50:5.1f} ms, p99 {p99:5.1f} ms"
        cpu = f"CPU: server {1000 * self.server_s / n:.2f} ms each, {self.server_s / self.seconds:.2f} cores"
        return f"{speed}; {cpu}, clients {self.generator_s / self.seconds:.2f} cores"


class Client:
    """A keep-alive connection with one request at a time."""

    def __init__(self, address: tuple[str, int], case: Case) -> None:
        self._socket = socket.create_connection(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._case = case
        self._received = b""
        self._sent_at = 0.0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        self._received = b""
        self._sent_at = time.perf_counter()
        self._socket.sendall(request)

    def receive(self, *, sampled: bool) -> float | None:
        """The seconds that the answer took, once it is whole.

        Raises:
            RuntimeError: the answer is wrong.
        """
        part = self._socket.recv(65_536)
        self._received += part
        head, end, body = self._received.partition(HEAD_END)
        if not part or not (head.startswith(b"HTTP/1.1 200 ") or not end):
            raise RuntimeError(f"{self._case.name}: {self._received[:500]!r}")
        if not end or len(body) < int(head.lower().split(LENGTH)[1].split(b"\r\n")[0]):
            return None
        taken = time.perf_counter() - self._sent_at
        if sampled and not self._case.is_right(json.loads(body)):
            raise RuntimeError(f"{self._case.name}: {body[:500]!r}")
        return taken


def main() -> None:
    """Print a line per number of processes and kind of request."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--case", help="only this one, such as /predict/live")
    chosen = parser.parse_args()
    for n_processes in chosen.processes:
        with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
            settings = {"PRICE_SOURCE": "sample", "DATA_DIR": folder, "WEB_CONCURRENCY": str(n_processes)}
            with server_process(settings, log=log) as (url, pid):
                wait_for_processes(url, n_processes)
                for case in cases(urlsplit(url).netloc):
                    if chosen.case in (None, case.name):
                        measure(case, url, pid, 1, WARM_UP_S)
                        measure(case, url, pid, chosen.clients, WARM_UP_S)
                        load = measure(case, url, pid, chosen.clients, chosen.seconds)
                        print(f"{n_processes} processes {case.name:18} {load.line}", flush=True)


def wait_for_processes(url: str, n_processes: int) -> None:
    """Wait until each of the processes answers."""
    answered: set[int] = set()
    while len(answered) < n_processes:
        with urllib.request.urlopen(f"{url}/monitoring/stats") as answer:  # noqa: S310 - our own server
            answered.add(json.load(answer)["system"]["pid"])


def cases(host: str) -> list[Case]:
    """The kinds of request, for a server at this address."""
    chance = np.random.default_rng(0)
    walks = np.exp(np.cumsum(chance.normal(0, 0.01, (N_BODIES, 60)), axis=1)) * 30
    one = {"symbol": SYMBOL}
    return [
        Case("/up", [head(host, "GET", "/up")], lambda answer: answer["status"] == "ok"),
        Case(
            "/predict",
            [head(host, "POST", "/predict", {**one, "prices": walk}) for walk in walks.round(4).tolist()],
            lambda answer: 0.8 < answer["predicted_ratio"] < 1.25 or answer["predicted_price"] > 0,
        ),
        Case("/predict/live", [head(host, "POST", "/predict/live", one)], lambda answer: answer["symbol"] == SYMBOL),
        Case(
            "/predict/forecast",
            [head(host, "POST", "/predict/forecast", {**one, "days": DAYS})],
            lambda answer: [day["day"] for day in answer["forecast"]] == [*range(1, DAYS + 1)],
        ),
    ]


def head(host: str, method: str, path: str, body: object = None) -> bytes:
    """A request as it is sent."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: */*\r\n"
    return f"{lines}Content-Length: {len(content)}\r\n\r\n".encode() + content


def measure(case: Case, url: str, pid: int, n_clients: int, seconds: float) -> Load:
    """What so many clients measure in this time."""
    address = urlsplit(url)
    requests, load = cycle(case.requests), Load()
    with selectors.DefaultSelector() as ready:
        clients = [Client((address.hostname or "", address.port or 0), case) for _ in range(n_clients)]
        cpu_s, own_s, started = server_cpu_s(pid), time.process_time(), time.perf_counter()
        for client in clients:
            ready.register(client, selectors.EVENT_READ, client)
            client.send(next(requests))
        while (now := time.perf_counter()) - started < seconds:
            for key, _ in ready.select(1.0):
                taken = key.data.receive(sampled=len(load.latencies) % SAMPLED == 0)
                if taken is not None:
                    load.latencies.append(taken)
                    key.data.send(next(requests))
        load.seconds = now - started
        load.generator_s = time.process_time() - own_s
        load.server_s = server_cpu_s(pid) - cpu_s
        for client in clients:
            client.close()
    return load


def server_cpu_s(pid: int) -> float:
    """CPU seconds of the server's processes until now."""
    main_process = psutil.Process(pid)
    times = [process.cpu_times() for process in [main_process, *main_process.children(recursive=True)]]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    main()
