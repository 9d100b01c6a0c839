import socket
from asyncio.trsock import TransportSocket

from server.limits import Connections
from server.protocol import send_at_once


class Connection:
    def __init__(self) -> None:
        self.open = True

    def abort(self) -> None:
        self.open = False


def test_the_connection_that_has_waited_longest_makes_room() -> None:
    connections, waiting = Connections(limit=3), [Connection() for _ in range(3)]
    for connection in waiting:
        connections.waiting[connection] = None

    assert connections.make_room(3)
    assert [connection.open for connection in waiting] == [True, True, True]
    assert connections.make_room(4)
    assert [connection.open for connection in waiting] == [False, True, True]
    assert connections.make_room(5)  # the first is not counted off before its end
    assert [connection.open for connection in waiting] == [False, False, True]


def test_connections_at_work_make_no_room() -> None:
    assert not Connections(limit=3).make_room(4)


def test_the_end_of_an_answer_does_not_wait_for_the_clients_acknowledgement() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as one:
        send_at_once(TransportSocket(one))

        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
