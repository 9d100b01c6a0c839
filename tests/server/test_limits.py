from server.limits import Connections


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
