"""What tests that start servers share: ports, and commands that do not outlive us."""

import shutil
from socket import AF_INET, SOCK_STREAM, socket


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on at the moment."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a TCP port of the loopback interface."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dies_with_us() -> list[str]:
    """The start of a command that ends when we do, killed or not."""
    # util-linux, so on every Debian; elsewhere a killed test run may leave its servers behind
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
