"""Work that the event loop does itself, as long as everything that it needs is in memory.

A thread for work of a tenth of a millisecond costs more than the work. So an answer is first tried in the event loop:
``at_once`` runs it there, and whatever would read, wait or compute for long calls ``may_take_long`` first, which ends
the attempt. The same work then runs in a thread, where ``may_take_long`` does nothing.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_IN_EVENT_LOOP: ContextVar[bool] = ContextVar("in_event_loop", default=False)


class TakesLong(BaseException):
    """The work needs more than memory. No handler of ``Exception`` swallows it."""


def at_once(work: Callable[[], T]) -> T:
    """What ``work`` returns, without input, output or long computation.

    Raises:
        TakesLong: the work must run in a thread, from its beginning.
    """
    before = _IN_EVENT_LOOP.set(True)
    try:
        return work()
    finally:
        _IN_EVENT_LOOP.reset(before)


def may_take_long() -> None:
    """Call this before any input, output or long computation, and before anything changes that a second try repeats.

    Raises:
        TakesLong: the caller runs in the event loop.
    """
    if _IN_EVENT_LOOP.get():
        raise TakesLong
