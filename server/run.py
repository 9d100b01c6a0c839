"""Runs the application in this process, and ends the process in time whatever hangs."""

import logging
import os
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from config import Settings
from server.limits import MAX_BACKLOG, STATE, backlog, n_queued, raise_file_limit
from server.port import IS_DIVIDED

PROTOCOL = "server.protocol:LimitedProtocol"
REQUESTS_SHARE = 2 / 3  # of the time to end: for requests at work; then the application has the rest
SHARED_BACKLOG = 2  # connections that a process accepts at once from a socket of several, less one
LAST_WORDS_S = 1.0  # for the last line of the log: standard error may hang too

log = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """Ends within ``shutdown_timeout_s`` of the first signal. A second one ends the wait for requests at work."""

    def __init__(self, config: uvicorn.Config, shutdown_timeout_s: float) -> None:
        super().__init__(config)
        self._shutdown_timeout_s = shutdown_timeout_s
        self._measured = time.process_time(), 0  # when, and the requests answered until then

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            timer = threading.Timer(self._shutdown_timeout_s - LAST_WORDS_S, end_now)
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for listening in (one for server in self.servers for one in server.sockets):
            with listening.dup() as same:  # the kernel's queue may be long; the event loop accepts fewer at once
                same.listen(MAX_BACKLOG)

    async def on_tick(self, counter: int) -> bool:
        self._measure_queue()
        return await super().on_tick(counter)

    def _measure_queue(self) -> None:
        """Note how long a new connection waits: an event loop that is late accepts late.

        Only the processor time of this process counts. If the machine gave it none for a while, those who wait now are
        soon answered, and there is nothing to refuse.
        """
        limits, now, total = self.lifespan.state.get(STATE), time.process_time(), self.server_state.total_requests
        (then, before), self._measured = self._measured, (now, total)
        if limits is not None and now > then:
            limits.n_queued = sum(n_queued(one) for server in self.servers for one in server.sockets)
            limits.queue_s = limits.n_queued * (now - then) / max(total - before, 1)

    async def shutdown(self, sockets: Any = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would then leave the application's workers running
            await self.lifespan.shutdown()


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve on the host and port of the settings until a signal."""
    config = uvicorn.Config(app, host=settings.host, port=settings.port, **options(settings))
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again
        Server(config, settings.shutdown_timeout_s).run()


def options(settings: Settings) -> dict[str, Any]:
    """What uvicorn must know besides the address."""
    at_once = backlog(raise_file_limit())
    return {
        "http": PROTOCOL,
        "ws": "none",
        "loop": "asyncio",  # uvloop accepts one connection in each round: under overload, others wait for half a minute
        "log_config": None,
        "backlog": at_once if settings.n_processes == 1 or IS_DIVIDED else min(at_once, SHARED_BACKLOG),
        "timeout_graceful_shutdown": max(1, int(settings.shutdown_timeout_s * REQUESTS_SHARE)),
    }


def end_now() -> None:
    """End this process, with the names of the threads that it does not wait for."""
    names = ", ".join(sorted(thread.name for thread in threading.enumerate() if thread is not threading.main_thread()))
    message = "the server has not ended in time and ends now, with these threads: %s"
    words = threading.Thread(target=log.critical, args=(message, names), daemon=True)
    words.start()
    words.join(LAST_WORDS_S)
    os._exit(1)
