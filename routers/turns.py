"""Turns: few requests are worked on at once, so that under overload the accepted ones stay fast."""

import asyncio

from starlette.types import Scope

from errors import ServerBusy

RETRY_AFTER_S = 1
MAX_WAIT_S = 0.3

_TURN = "turn"  # the key of a request's turn in its scope


class Turns:
    """At most ``active`` requests are being answered, and ``at_work`` of them have a turn; others wait, but not long.

    More threads than this finish no sooner on a few cores: they take the processor from each other and from the event
    loop, which then refuses too slowly.
    """

    def __init__(self, active: int, at_work: int) -> None:
        self._active = active
        self._n_active = 0
        self._free = asyncio.Semaphore(at_work)

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
            if self._free.locked():
                async with asyncio.timeout(MAX_WAIT_S):
                    await self._free.acquire()
            else:
                await self._free.acquire()  # at once
        except BaseException as error:
            self._n_active -= 1
            if isinstance(error, TimeoutError):
                raise _busy() from None
            raise  # the client left, or the server ends
        scope[_TURN] = _Turn(self._free)

    def give_back(self, scope: Scope) -> None:
        """End the request's turn, where it has one."""
        if _TURN in scope:
            self._n_active -= 1
            scope.pop(_TURN).end()


class _Turn:
    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free: asyncio.Semaphore | None = free

    def end(self) -> None:
        if self._free is not None:
            self._free.release()
            self._free = None


def rest(scope: Scope) -> None:
    """End the turn of a request that only waits from now on, as for a job in another process."""
    turn = scope.get(_TURN)
    if isinstance(turn, _Turn):
        turn.end()


def _busy() -> ServerBusy:
    return ServerBusy("too many requests are being answered; try again later", retry_after_s=RETRY_AFTER_S)
