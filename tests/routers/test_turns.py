"""Turns of requests: who works, who waits, who is refused."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from errors import ServerBusy
from routers import turns
from routers.turns import Turns, rest


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_S", 0.02)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(5):
            await scenario()

    asyncio.run(in_time())


def test_a_request_without_a_turn_in_time_is_refused() -> None:
    async def scenario() -> None:
        limited = Turns(active=10, at_work=1)
        await limited.take({})
        with pytest.raises(ServerBusy) as refusal:
            await limited.take({})
        assert refusal.value.retry_after_s == 1

    run(scenario)


def test_a_turn_that_ends_goes_to_who_waits() -> None:
    async def scenario() -> None:
        limited, first, second = Turns(active=10, at_work=1), dict[str, object](), dict[str, object]()
        await limited.take(first)
        waiting = asyncio.create_task(limited.take(second))
        await asyncio.sleep(0)
        limited.give_back(first)
        await waiting

    run(scenario)


def test_a_request_that_rests_is_still_being_answered() -> None:
    async def scenario() -> None:
        limited, first, second = Turns(active=2, at_work=1), dict[str, object](), dict[str, object]()
        await limited.take(first)
        rest(first)
        await limited.take(second)
        with pytest.raises(ServerBusy):
            limited.validate_room()
        limited.give_back(first)
        limited.validate_room()

    run(scenario)


def test_a_turn_ends_once() -> None:
    async def scenario() -> None:
        limited, first = Turns(active=10, at_work=1), dict[str, object]()
        await limited.take(first)
        rest(first)
        rest(first)
        limited.give_back(first)
        limited.give_back(first)
        await limited.take({})
        with pytest.raises(ServerBusy):
            await limited.take({})

    run(scenario)


def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        limited, first = Turns(active=2, at_work=1), dict[str, object]()
        await limited.take(first)
        waiting = asyncio.create_task(limited.take({}))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        limited.give_back(first)
        await limited.take({})
        limited.validate_room()

    run(scenario)
