"""How many connections a process may have open, and which of them wait for their client."""

import resource
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Protocol

STATE = "connections"  # the key of `Connections` in the state of the lifespan
ARRIVED = "arrived"  # the key of a request's `Arrival` in its scope

# Of the files that the process may open, half are for connections. Up to three times the backlog are accepted before
# the first of them can be closed. The rest is for the store, price files, workers and the standard streams.
_FILES_PER_CONNECTION = 2
_FILES_PER_BACKLOG = 32
MAX_BACKLOG = 2048
# The size of the kernel's tcp_info, and where it has tcpi_unacked: of a listener, its queue.
_TCP_INFO_BYTES, _QUEUED_AT = 104, 24
ENOUGH_FILES = 1_048_576
CROWD = 8  # fewer requests that wait are no overload: the machine was busy with something else


class Closable(Protocol):
    """A connection that can be closed at once."""

    def abort(self) -> None: ...


@dataclass(eq=False)
class Connections:
    """The limits of a process's connections, and those that wait for their client, the longest wait first.

    Attributes:
        limit: how many may be open. For one more, that which has waited longest for its client is closed.
        timeout_s: for the head of a request, and for the client to take in some of its answer.
        waiting: keeps its order; the values mean nothing.
        n_queued: connections in the kernel's queue.
        queue_s: that a new connection waits in the kernel's queue, as far as is known.
        n_unstarted: requests that are here, and that the application has not begun.
    """

    limit: int = 1000
    timeout_s: float = 10.0
    waiting: dict[Closable, None] = field(default_factory=dict)
    n_queued: int = 0
    queue_s: float = 0.0
    n_unstarted: int = 0

    @property
    def is_crowded(self) -> bool:
        """Whether so many requests wait that answering them all late would keep later ones waiting for longer still."""
        return self.n_unstarted + self.n_queued >= CROWD

    def make_room(self, n_open: int) -> bool:
        """Close a connection where too many are open; False where each of them has a request at work."""
        if n_open <= self.limit:
            return True
        if not self.waiting:
            return False
        longest = next(iter(self.waiting))
        del self.waiting[longest]
        longest.abort()
        return True


@dataclass(frozen=True, eq=False)
class Arrival:
    """When a request came to this machine, by ``time.monotonic``, and on which connections."""

    at: float
    connections: Connections


def n_queued(listening: socket.socket) -> int:
    """Connections in the kernel's queue of a listening socket; 0 where the kernel does not say."""
    if not sys.platform.startswith("linux"):
        return 0
    information = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    queued: int = struct.unpack_from("=I", information, _QUEUED_AT)[0]
    return queued


def raise_file_limit() -> int:
    """The number of files that this process may open, after it was raised as far as the process itself may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH_FILES if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS allows fewer than it says
        return soft
    return most


def connection_limit(asked: int, n_files: int) -> int:
    """``asked``, or fewer where the process may open few files.

    >>> connection_limit(1000, 1024), connection_limit(1000, 1_048_576)
    (512, 1000)
    """
    return min(asked, n_files // _FILES_PER_CONNECTION)


def backlog(n_files: int) -> int:
    """How many connections the event loop may accept at once: it closes none meanwhile.

    >>> backlog(128), backlog(1_048_576)
    (4, 2048)
    """
    return max(1, min(MAX_BACKLOG, n_files // _FILES_PER_BACKLOG))
