"""One port for several processes: the system divides connections between their sockets.

On Linux each process has a socket of its own (``SO_REUSEPORT``, ``man 7 socket``), which lives and dies with it.
Elsewhere that option does not divide connections, so that all processes accept from one socket.
"""

import logging
import socket
import sys

IS_DIVIDED = sys.platform == "linux"
PORT_IN_USE = 3  # exit code, as uvicorn has it with one process

log = logging.getLogger(__name__)


def kept_port(host: str, port: int) -> socket.socket:
    """A socket that keeps the port and does not listen; SystemExit if the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        kept = _bound(family, (host, port))
        if IS_DIVIDED:
            address = kept.getsockname()
            kept.close()  # the port was free even of a second server like this one, which the option would let in
            kept = _bound(family, address, is_shared=True)
    except OSError as error:
        log.critical("port %d of %s cannot be used: %s", port, host, error.strerror)
        raise SystemExit(PORT_IN_USE) from None
    log.info("listening on %s, port %d", host, kept.getsockname()[1])
    return kept


def one_of_port(kept: socket.socket) -> socket.socket:
    """The socket that one process accepts connections from."""
    return _bound(kept.family, kept.getsockname(), is_shared=True) if IS_DIVIDED else kept


def _bound(family: int, address: tuple[str, int], *, is_shared: bool = False) -> socket.socket:
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
