"""Turns of requests: who works, who waits, who is refused."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest

from errors import ServerBusy
from routers import turns
from routers.turns import Turns, begin, rest
from server.limits import ARRIVED, CROWD, Arrival, Connections


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAIT_S", 0.02)
    monkeypatch.setattr(turns, "SAMPLE_S", 0.0)


def busy(active: int, at_work: int) -> Turns:
    """Turns of a process that uses all of a core."""
    return Turns(active, at_work, time.monotonic)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(5):
            await scenario()

    asyncio.run(in_time())


def test_a_request_without_a_turn_in_time_is_refused() -> None:
    async def scenario() -> None:
        limited = busy(active=10, at_work=1)
        await limited.take({})
        with pytest.raises(ServerBusy) as refusal:
            await limited.take({})
        assert refusal.value.retry_after_s == 1

    run(scenario)


def test_requests_that_leave_the_processor_idle_keep_no_other_from_its_turn() -> None:
    async def scenario() -> None:
        limited = Turns(active=3, at_work=1, cpu_s=lambda: 0.0)
        for _ in range(3):
            await limited.take({})
        with pytest.raises(ServerBusy):
            await limited.take({})

    run(scenario)


def test_turns_that_end_go_to_those_who_wait_in_their_order() -> None:
    async def scenario() -> None:
        limited, came = busy(active=10, at_work=1), []
        first: dict[str, Any] = {}

        async def request(name: str) -> None:
            scope: dict[str, Any] = {}
            await limited.take(scope)
            came.append(name)
            limited.give_back(scope)

        await limited.take(first)
        waiting = [asyncio.create_task(request(name)) for name in "abc"]
        await asyncio.sleep(0)
        limited.give_back(first)
        await asyncio.gather(*waiting)
        assert came == ["a", "b", "c"]

    run(scenario)


def test_a_request_that_rests_is_still_being_answered() -> None:
    async def scenario() -> None:
        limited = busy(active=2, at_work=1)
        first: dict[str, Any] = {}
        await limited.take(first)
        rest(first)
        await limited.take({})
        with pytest.raises(ServerBusy):
            limited.validate_room()
        limited.give_back(first)
        limited.validate_room()

    run(scenario)


def test_a_turn_ends_once() -> None:
    async def scenario() -> None:
        limited = busy(active=10, at_work=1)
        first: dict[str, Any] = {}
        await limited.take(first)
        rest(first)
        rest(first)
        limited.give_back(first)
        limited.give_back(first)
        await limited.take({})
        with pytest.raises(ServerBusy):
            await limited.take({})

    run(scenario)


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(*, handed_over: bool) -> None:
    async def scenario() -> None:
        limited = busy(active=2, at_work=1)
        first: dict[str, Any] = {}
        await limited.take(first)
        waiting = asyncio.create_task(limited.take({}))
        await asyncio.sleep(0)
        if handed_over:
            limited.give_back(first)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        limited.give_back(first)
        await limited.take({})
        limited.validate_room()

    run(scenario)


@pytest.mark.parametrize(
    ("waited_s", "n_others", "refusable", "is_refused"),
    [
        (0.5, CROWD, True, True),
        (0.5, CROWD - 1, True, False),  # the machine was busy with something else
        (-1.0, CROWD, True, False),
        (0.5, CROWD, False, False),
    ],
)
def test_a_request_that_the_event_loop_comes_to_late_is_refused_where_many_wait(
    waited_s: float, n_others: int, *, refusable: bool, is_refused: bool
) -> None:
    connections = Connections(n_unstarted=1 + n_others)
    scope = {ARRIVED: Arrival(time.monotonic() - waited_s, connections)}

    with pytest.raises(ServerBusy) if is_refused else nullcontext():
        begin(scope, refusable=refusable)

    assert connections.n_unstarted == n_others


def test_connections_that_the_kernel_has_wait_too() -> None:
    connections = Connections(n_unstarted=1, n_queued=CROWD)

    with pytest.raises(ServerBusy):
        begin({ARRIVED: Arrival(time.monotonic() - 0.5, connections)}, refusable=True)


def test_a_request_without_an_arrival_is_in_time() -> None:
    begin({}, refusable=True)
