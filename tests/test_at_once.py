import threading
from contextvars import copy_context

import pytest

from at_once import TakesLong, at_once, may_take_long


def work() -> str:
    may_take_long()
    return "done"


def test_work_that_needs_no_more_than_memory_is_done_at_once() -> None:
    assert at_once(lambda: "done") == "done"


def test_work_that_may_take_long_is_not_done_at_once() -> None:
    with pytest.raises(TakesLong):
        at_once(work)


def test_the_same_work_is_done_otherwise() -> None:
    with pytest.raises(TakesLong):
        at_once(work)

    assert work() == "done"


def test_a_thread_with_the_context_of_a_request_may_take_long() -> None:
    with pytest.raises(TakesLong):
        at_once(work)
    results: list[str] = []

    thread = threading.Thread(target=copy_context().run, args=(lambda: results.append(work()),))
    thread.start()
    thread.join()

    assert results == ["done"]


def test_no_handler_of_exceptions_keeps_the_event_loop_waiting() -> None:
    def careless() -> str:
        try:
            return work()
        except Exception:  # noqa: BLE001 - what this test is about
            return "swallowed"

    with pytest.raises(TakesLong):
        at_once(careless)
