"""The time that measuring and logging add to a request: an empty application, without and with the middleware.

python -m benchmarks.middleware [--repeats 20000]
"""

import argparse
import asyncio
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from routers.middleware import RequestMiddleware
from telemetry.measures import NO_METER
from telemetry.prometheus import PrometheusMeter

TARGET_MS = 0.2


# the router leaves its route in the scope
ROUTE = SimpleNamespace(path_format="/predict/live")
SCOPE = {"type": "http", "method": "POST", "path": "/predict/live", "route": ROUTE, "headers": []}


async def empty(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.middleware", description=(__doc__ or "").split("\n")[0]
    )
    arguments.add_argument("--repeats", type=int, default=20_000, help="measured requests (default: %(default)s)")
    repeats = arguments.parse_args().repeats
    with Path(os.devnull).open("w") as devnull:
        logging.basicConfig(level=logging.INFO, stream=devnull, format="%(levelname)s: %(message)s")
        bare = _print_row("no middleware", empty, repeats)
        _print_row("without a meter", RequestMiddleware(empty, NO_METER), repeats)
        measured = _print_row("with Prometheus", RequestMiddleware(empty, PrometheusMeter()), repeats)
    print(f"measuring and logging adds {measured - bare:.4f} ms to a request; target: at most {TARGET_MS:g}")


def _print_row(name: str, app: ASGIApp, repeats: int) -> float:
    taken = asyncio.run(_milliseconds(app, repeats))
    median = float(np.median(taken))
    print(f"{name:18} {median:8.4f} {np.quantile(taken, 0.99):8.4f}  ms, median and 99th percentile")
    return median


async def _milliseconds(app: ASGIApp, repeats: int) -> list[float]:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Message) -> None:
        return None

    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        await app({**SCOPE}, receive, send)
        taken.append(1000 * (time.perf_counter() - started))
    return taken


if __name__ == "__main__":
    main()
