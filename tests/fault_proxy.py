"""A TCP proxy that breaks HTTP/1.1 exchanges at random: the network between a server and what it depends on."""

import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 65_536
SLOW_S = 1.0
IDLE_S = 60.0
HANG_S = 8.0  # longer than one attempt of any client here waits
REFUSAL = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

FAULTS = ("lost request", "lost answer", "cut answer", "slow", "hang", "refused")


@dataclass
class FaultProxy:
    """Forwards connections to a port of the loopback interface.

    Attributes:
        target: that port.
        share: of the requests, how many meet a fault; 0 forwards everything.
        down: whether every connection is closed at once.
        counts: requests by the fault that they met, and ``None`` for those without.
    """

    target: int
    share: float = 0.0
    down: bool = False
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - no secret

    def serve(self, client: socket.socket) -> None:
        """Forward one connection until either side closes it or a fault ends it."""
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as upstream:
            fault, answered = None, True
            while True:
                ready, _, _ = select.select([client, upstream], [], [], IDLE_S)
                if self.down or not ready:
                    return _reset(client)
                if client in ready:
                    fault, answered = self._roll() if answered else fault, False
                    if not _forward_request(client, upstream, fault):
                        return None
                if upstream in ready:
                    answered = True
                    if not _forward_answer(client, upstream, fault):
                        return None

    def _roll(self) -> str | None:
        fault = self.chance.choice(FAULTS) if self.chance.random() < self.share else None
        self.counts[fault or "none"] += 1
        return fault


@contextmanager
def running_proxy(target: int, seed: int) -> Iterator[FaultProxy]:
    """A proxy in threads of this process, without faults at first."""
    proxy = FaultProxy(target, chance=random.Random(seed))  # noqa: S311 - no secret
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        proxy.port = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, proxy), daemon=True).start()
        yield proxy


def _accept(listener: socket.socket, proxy: FaultProxy) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed at the end
            return
        if proxy.down:
            _reset(client)
        else:
            threading.Thread(target=proxy.serve, args=(client,), daemon=True).start()


def _forward_request(client: socket.socket, upstream: socket.socket, fault: str | None) -> bool:
    """Whether the connection goes on."""
    sent = client.recv(CHUNK)
    if fault == "lost request":
        _reset(client)
    elif fault == "refused":
        client.sendall(REFUSAL)
    elif sent:
        upstream.sendall(sent)
        return True
    return False


def _forward_answer(client: socket.socket, upstream: socket.socket, fault: str | None) -> bool:
    """Whether the connection goes on."""
    answer = upstream.recv(CHUNK)
    time.sleep({"slow": SLOW_S, "hang": HANG_S}.get(fault or "", 0.0))
    if fault == "cut answer":
        client.sendall(answer[: len(answer) // 2])
    if fault in ("cut answer", "lost answer"):
        _reset(client)
        return False
    client.sendall(answer)
    return bool(answer)


def _reset(client: socket.socket) -> None:
    """Close with RST rather than FIN, as a router that lost the connection does."""
    with suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
