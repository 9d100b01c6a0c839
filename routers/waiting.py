"""Waiting for work on behalf of a client, no longer than the client does."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request
from starlette.exceptions import HTTPException

from routers.turns import rest

T = TypeVar("T")


class ClientGone(HTTPException):
    """The client has closed its connection: the answer, which only the access log shows, is 499 as in nginx."""

    def __init__(self) -> None:
        super().__init__(499, "the client closed the connection")


async def while_connected(http: Request, result: Awaitable[T]) -> T:
    """What ``result`` gives; it is cancelled if the client leaves first. The request's turn ends.

    Raises:
        ClientGone: the client left.
    """
    rest(http.scope)
    answer, gone = asyncio.ensure_future(result), asyncio.ensure_future(_disconnected(http))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            gone.result()  # raises where the client sends a body that is too large
            raise ClientGone
        return answer.result()
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnected(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
