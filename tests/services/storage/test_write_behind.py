import threading

import pytest

from services.storage import write_behind
from services.storage.write_behind import WriteBehind


def test_a_flush_does_the_queued_writes_concurrently() -> None:
    together, done = threading.Barrier(3), []

    def write() -> bool:
        together.wait(10)
        done.append(1)
        return True

    writer = WriteBehind()
    for _ in range(3):
        assert writer.put(write)

    writer.flush()

    assert len(done) == 3


def test_a_started_writer_writes_without_a_flush_and_a_flush_waits_for_what_it_has_begun() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def write() -> bool:
        begun.set()
        go_on.wait(10)
        done.set()
        return True

    writer = WriteBehind()
    writer.start()
    writer.put(write)
    assert begun.wait(10)
    threading.Timer(0.1, go_on.set).start()

    writer.flush()

    assert done.is_set()


def test_more_writes_than_may_wait_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "MAX_WAITING", 1)
    writer = WriteBehind()

    assert [writer.put(lambda: True), writer.put(lambda: True)] == [True, False]


def test_a_failed_write_ends_the_flush_and_pauses_the_queue() -> None:
    writer, attempts = WriteBehind(), []

    def fail() -> bool:
        attempts.append(1)
        return False

    for _ in range(3 * write_behind.WRITERS):
        writer.put(fail)
    writer.flush()

    assert len(attempts) == write_behind.WRITERS
    assert not writer.put(lambda: True)
