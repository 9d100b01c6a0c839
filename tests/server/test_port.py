"""One port for several processes."""

import socket
from collections import Counter

import pytest

from server.port import IS_DIVIDED, kept_port, one_of_port

HOST = "127.0.0.1"
N_CONNECTIONS = 64

divided = pytest.mark.skipif(not IS_DIVIDED, reason="only Linux divides connections between the sockets of one port")


@divided
def test_connections_are_divided_between_the_sockets_of_a_port() -> None:
    with kept_port(HOST, 0) as kept, one_of_port(kept) as one, one_of_port(kept) as other:
        listening = {"one": one, "other": other}
        for each in listening.values():
            each.listen(N_CONNECTIONS)
            each.setblocking(False)
        made = [socket.create_connection(kept.getsockname()) for _ in range(N_CONNECTIONS)]
        counts: Counter[str] = Counter()
        for name, each in listening.items():
            while True:
                try:
                    each.accept()[0].close()
                except BlockingIOError:
                    break
                counts[name] += 1
        for connection in made:
            connection.close()

    assert counts.total() == N_CONNECTIONS  # none waits at the socket that only keeps the port
    assert min(counts["one"], counts["other"]) > N_CONNECTIONS / 8


@divided
def test_a_socket_that_closes_leaves_all_new_connections_to_the_others() -> None:
    with kept_port(HOST, 0) as kept, one_of_port(kept) as stays:
        stays.listen(N_CONNECTIONS)
        with one_of_port(kept) as dies:
            dies.listen(N_CONNECTIONS)
        made = [socket.create_connection(kept.getsockname()) for _ in range(N_CONNECTIONS)]

        for connection in made:
            stays.accept()[0].close()
            connection.close()


def test_the_port_of_another_server_is_not_shared(caplog: pytest.LogCaptureFixture) -> None:
    with kept_port(HOST, 0) as kept, one_of_port(kept) as first:
        first.listen()

        with pytest.raises(SystemExit):
            kept_port(*kept.getsockname())

    assert "of 127.0.0.1 cannot be used: Address already in use" in caplog.text
