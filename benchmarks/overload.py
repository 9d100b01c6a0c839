"""A server under four times the load that it can serve: how quickly it answers, what it refuses, how much memory.

    python -m benchmarks.overload [--minutes 10] [--times 4] [--rate REQUESTS_A_SECOND]

First a few clients that wait for each answer show how many requests a second the server can serve. Then requests
arrive at ``--times`` that rate, whatever the answers, in the mix that pages and scripts send, a few of them expensive.
Accepted reads must take less than 1 s at the 99th percentile, everything else must be answered by 429 or 503 with
Retry-After, and the memory must stay within 10 % of that after the first minute. Exits with 1 otherwise.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
import numpy as np
import psutil

from benchmarks.server import server_process

READ_WITHIN_S = 1.0
MORE_MEMORY = 1.10
WARM_UP_S, FULL_LOAD_S = 3.0, 15.0
CLIENTS = 8
GIVE_UP_S = 60.0
CLOSES = [round(28 + 0.05 * day + 0.2 * (day % 3), 2) for day in range(60)]
TRAINING = {"ticker": "^GSPC", "model": "ewma", "end_date": "2018-12-31"}

READS: Sequence[tuple[int, str, str, object]] = (
    (35, "POST", "/predict/live", {"symbol": "^GSPC"}),
    (20, "POST", "/predict/forecast", {"symbol": "^IXIC", "days": 10}),
    (15, "POST", "/predict", {"prices": CLOSES}),
    (10, "POST", "/predict/batch", {"symbols": ["^GSPC", "^IXIC"], "days": 5}),
    (10, "GET", "/models", None),
    (5, "GET", "/up", None),
    (3, "POST", "/predict/live", {"symbol": 5}),
)
EXPENSIVE: Sequence[tuple[int, str, str, object]] = (
    (1, "POST", "/models/train?async=true", TRAINING),
    (1, "POST", "/models/default/backtest", {"ticker": "^GSPC", "stride": 25}),
)


@dataclass
class Load:
    """What came back."""

    read_s: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    async def send(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        kinds = (*READS, *EXPENSIVE)
        (kind,) = chance.choices(kinds, [kind[0] for kind in kinds])
        _, method, path, body = kind
        started = time.perf_counter()
        try:
            async with session.request(method, path, json=body) as answer:
                await answer.read()
                status, waits = answer.status, "Retry-After" in answer.headers
        except (aiohttp.ClientError, TimeoutError) as error:
            self.wrong[f"{method} {path}: {type(error).__name__}"] += 1
            return
        if kind in READS and status in (200, 422):
            self.read_s.append(time.perf_counter() - started)
        self.counts[f"{'read' if kind in READS else 'expensive'} {status}"] += 1
        if status not in (200, 202, 422) and not (status in (429, 503) and waits):
            self.wrong[f"{method} {path}: {status} {'with' if waits else 'without'} Retry-After"] += 1


def session_to(url: str) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=GIVE_UP_S)
    return aiohttp.ClientSession(url, timeout=timeout, connector=aiohttp.TCPConnector(limit=0))


async def served_a_second(url: str, seconds: float) -> float:
    """How many requests a second are answered to clients that wait for each answer."""
    load, until = Load(), time.monotonic() + seconds
    async with session_to(url) as session:

        async def client(number: int) -> None:
            chance = random.Random(number)  # noqa: S311 - no secret
            while time.monotonic() < until:
                await load.send(session, chance)

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return len(load.read_s) / seconds


async def overload(url: str, rate: float, seconds: float, server: psutil.Process) -> tuple[Load, Mapping[int, float]]:
    """Requests that arrive at this rate; what came back, and the memory in MB after each minute."""
    load, chance, memory = Load(), random.Random(0), {}  # noqa: S311 - no secret
    started, due, sent = time.monotonic(), 0.0, set()
    async with session_to(url) as session:
        while due < seconds:
            await asyncio.sleep(max(0.0, started + due - time.monotonic()))
            sent.add(task := asyncio.create_task(load.send(session, chance)))
            task.add_done_callback(sent.discard)
            due += chance.expovariate(rate)
            if (minute := int((time.monotonic() - started) // 60)) and minute not in memory:
                memory[minute] = server.memory_info().rss / 2**20
                print(f"minute {minute}: {memory[minute]:.0f} MB, {dict(load.counts)}", flush=True)
        await asyncio.gather(*sent)
    return load, memory


def main() -> None:
    """Print what was accepted, what was refused and the memory of each minute."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--times", type=float, default=4)
    parser.add_argument("--rate", type=float, help="requests a second that the server can serve (default: measured)")
    options = parser.parse_args()
    settings = {"PRICE_SOURCE": "sample", "LOG_FORMAT": "json"}
    with tempfile.TemporaryDirectory() as folder, server_process({**settings, "DATA_DIR": folder}) as (url, pid):
        asyncio.run(served_a_second(url, WARM_UP_S))
        served = options.rate or asyncio.run(served_a_second(url, FULL_LOAD_S))
        print(f"serves {served:.0f} requests a second; now {options.times * served:.0f} arrive", flush=True)
        arriving = options.times * served
        load, memory = asyncio.run(overload(url, arriving, 60 * options.minutes + 1, psutil.Process(pid)))
    p50, p99 = np.percentile(load.read_s, [50, 99])
    accepted = len(load.read_s) / (60 * options.minutes)
    print(f"{accepted:.0f} reads a second accepted, p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms")
    print("\n".join(f"{count:8d}  {what}" for what, count in load.counts.most_common()))
    print("\n".join(f"{count:8d}  wrong: {what}" for what, count in load.wrong.most_common()))
    grown = max(memory.values()) / memory[1]
    print(f"memory {memory[1]:.0f} MB after the first minute, at most {grown:.2f} times that later")
    sys.exit(bool(load.wrong) or p99 > READ_WITHIN_S or grown > MORE_MEMORY)


if __name__ == "__main__":
    main()
