"""Turns: while the processor is busy few requests are worked on at once, so that the accepted ones stay fast."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from starlette.types import Scope

from errors import ServerBusy
from server.limits import ARRIVED, Arrival

RETRY_AFTER_S = 1
MAX_WAIT_S = 0.3
BUSY_SHARE = 0.4  # of one core: with Python that is much, and on a machine with other work not less
SAMPLE_S = 0.25

_TURN = "turn"  # the key of a request's turn in its scope


class Turns:
    """At most ``active`` requests are being answered. While the processor is busy, ``at_work`` of them have a turn.

    The others wait for theirs, but not long. More threads than this finish no sooner on a few cores: they take the
    processor from each other and from the event loop, which then refuses too slowly. Requests that wait for a network
    leave the processor idle, and do not keep others from their turn.

    Requests that the event loop answers itself need no turn: they wait for the loop, which is late with all of them
    once too many arrive. It refuses those that it comes to too late, which takes a tenth of the time of an answer.
    """

    def __init__(self, active: int, at_work: int, cpu_s: Callable[[], float] = time.process_time) -> None:
        self._active = active
        self._at_work = at_work
        self._processor = _Processor(cpu_s)
        self._n_active = 0
        self._n_at_work = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def validate_room(self) -> None:
        """Check that there is room for one more request.

        Raises:
            ServerBusy: too many are being answered.
        """
        if self._n_active >= self._active:
            raise _busy()

    async def take(self, scope: Scope) -> None:
        """Give the request a turn, until it ends or rests.

        Raises:
            ServerBusy: too many are being answered, or no turn became free in time.
        """
        self.validate_room()
        self._n_active += 1
        try:
            if self._is_full():
                await self._wait()
            else:
                self._n_at_work += 1
        except BaseException as error:
            self._n_active -= 1
            if isinstance(error, TimeoutError):
                raise _busy() from None
            raise  # the client left, or the server ends
        scope[_TURN] = _Turn(self._end)

    def give_back(self, scope: Scope) -> None:
        """End the request's turn, where it has one."""
        if _TURN in scope:
            self._n_active -= 1
            scope.pop(_TURN).end()

    def _is_full(self) -> bool:
        return self._n_at_work >= self._at_work and self._processor.is_busy()

    async def _wait(self) -> None:
        """Wait for a turn, which ``_end`` hands over with the future."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                await turn
        except BaseException:
            with suppress(ValueError):
                self._waiting.remove(turn)
            if turn.done() and not turn.cancelled():  # handed over at the same moment
                self._end()
            raise

    def _end(self) -> None:
        self._n_at_work -= 1
        while self._waiting and not self._is_full():
            turn = self._waiting.popleft()
            if not turn.done():
                self._n_at_work += 1
                turn.set_result(None)


def begin(scope: Scope, *, refusable: bool) -> None:
    """Count the request as begun.

    Raises:
        ServerBusy: the event loop comes too late to it, and many others wait.
    """
    arrival: Arrival | None = scope.get(ARRIVED)
    if arrival is None:
        return
    arrival.connections.n_unstarted -= 1
    if refusable and time.monotonic() - arrival.at > MAX_WAIT_S and arrival.connections.is_crowded:
        raise _busy()


class _Processor:
    """Whether this process keeps a core busy, looked at a few times a second."""

    def __init__(self, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s
        self._looked_at = time.monotonic(), cpu_s()
        self._busy = False

    def is_busy(self) -> bool:
        now, (then, used) = time.monotonic(), self._looked_at
        if now - then >= SAMPLE_S:
            self._looked_at = now, self._cpu_s()
            self._busy = self._looked_at[1] - used > BUSY_SHARE * (now - then)
        return self._busy


class _Turn:
    def __init__(self, end: Callable[[], None]) -> None:
        self._end: Callable[[], None] | None = end

    def end(self) -> None:
        if self._end is not None:
            self._end()
            self._end = None


def rest(scope: Scope) -> None:
    """End the turn of a request that only waits from now on, as for a job in another process."""
    turn = scope.get(_TURN)
    if isinstance(turn, _Turn):
        turn.end()


def _busy() -> ServerBusy:
    return ServerBusy("too many requests are being answered; try again later", retry_after_s=RETRY_AFTER_S)
