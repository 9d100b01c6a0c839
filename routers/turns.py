"""Turns: few requests are worked on at once, so that under overload the accepted ones stay fast."""

import asyncio

from starlette.types import Scope

from errors import ServerBusy

BUSY = "too many requests are being answered; try again later"
RETRY_AFTER_S = 1
MAX_WAIT_S = 0.3

_TURN = "turn"  # the key of a request's turn in its scope


class Turns:
    """At most ``at_work`` requests have a turn; others wait for theirs, in order, but not long.

    More threads than this finish no sooner on a few cores: they take the processor from each other and from the event
    loop, which then refuses too slowly.
    """

    def __init__(self, at_work: int) -> None:
        self._free = asyncio.Semaphore(at_work)

    async def take(self, scope: Scope) -> None:
        """Give the request a turn, until it ends or rests.

        Raises:
            ServerBusy: none became free in time.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(MAX_WAIT_S):
                    await self._free.acquire()
            except TimeoutError:
                raise ServerBusy(BUSY, retry_after_s=RETRY_AFTER_S) from None
        else:
            await self._free.acquire()  # at once
        scope[_TURN] = self

    def give_back(self, scope: Scope) -> None:
        """End the request's turn, where it has one."""
        if scope.pop(_TURN, None) is not None:
            self._free.release()


def rest(scope: Scope) -> None:
    """End the turn of a request that only waits from now on, as for a job in another process."""
    turns = scope.get(_TURN)
    if isinstance(turns, Turns):
        turns.give_back(scope)
