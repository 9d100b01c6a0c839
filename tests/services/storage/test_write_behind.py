import threading
import time

import pytest

from services.storage import write_behind
from services.storage.write_behind import WriteBehind


class SlowWrite:
    """A write that waits for the test."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.done = threading.Event(), threading.Event(), threading.Event()

    def __call__(self) -> bool:
        self.begun.set()
        self.go_on.wait(10)
        self.done.set()
        return True


def writer_with(in_hand: SlowWrite) -> WriteBehind:
    """A started writer whose thread has begun a write."""
    writer = WriteBehind()
    writer.start()
    writer.put(in_hand)
    assert in_hand.begun.wait(10)
    return writer


def test_a_flush_does_the_queued_writes_concurrently() -> None:
    together, done = threading.Barrier(3), []

    def write() -> bool:
        together.wait(10)
        done.append(1)
        return True

    writer = WriteBehind()
    for _ in range(3):
        assert writer.put(write)

    assert writer.flush() == 0
    assert len(done) == 3


def test_a_started_writer_writes_without_a_flush_and_a_flush_waits_for_what_it_has_begun() -> None:
    slow = SlowWrite()
    writer = writer_with(slow)
    threading.Timer(0.1, slow.go_on.set).start()

    assert writer.flush() == 0
    assert slow.done.is_set()


def test_a_flush_waits_for_what_has_begun_although_a_queued_write_fails() -> None:
    slow = SlowWrite()
    writer = writer_with(slow)
    for _ in range(2):
        writer.put(lambda: False)
    threading.Timer(0.3, slow.go_on.set).start()

    writer.flush()

    assert slow.done.is_set()


def test_two_flushes_at_once_both_wait_for_a_write_that_one_of_them_has_begun() -> None:
    slow, writer = SlowWrite(), WriteBehind()
    writer.put(slow)
    first = threading.Thread(target=writer.flush)
    first.start()
    assert slow.begun.wait(10)
    threading.Timer(0.1, slow.go_on.set).start()

    assert writer.flush() == 0
    assert slow.done.is_set()
    first.join()


def test_a_write_that_hangs_holds_a_flush_up_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "FLUSH_S", 0.3)
    slow = SlowWrite()
    writer = writer_with(slow)
    begun = time.monotonic()

    left = writer.flush()

    assert left == 1
    assert 0.2 < time.monotonic() - begun < 5
    slow.go_on.set()


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
    left = writer.flush()

    assert 1 <= len(attempts) <= write_behind.WRITERS
    assert left == 3 * write_behind.WRITERS - len(attempts)
    assert not writer.put(lambda: True)


def test_a_failed_write_stops_the_other_threads_of_the_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_behind, "WRITERS", 2)
    slow, writer = SlowWrite(), WriteBehind()
    for write in (slow, lambda: False, lambda: True):
        writer.put(write)
    threading.Timer(0.2, slow.go_on.set).start()

    assert writer.flush() == 1


def test_a_write_that_raises_is_logged_and_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    writer, done = WriteBehind(), threading.Event()
    writer.start()

    def mistake() -> bool:
        raise ValueError("a mistake")

    def write() -> bool:
        done.set()
        return True

    writer.put(mistake)
    writer.put(write)

    assert done.wait(10)
    assert writer.flush() == 0
    assert "a mistake" in caplog.text
    assert writer.put(write)  # the store has not failed
