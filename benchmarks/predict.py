"""Milliseconds of a forecast in process, after the first: the service alone, and the whole ASGI application.

    python -m benchmarks.predict [--repeats 1000]

The bundled model answers, from cached prices.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from fastapi import FastAPI

from bootstrap import Runtime
from config import Settings
from schemas.common import DEFAULT_LEVELS
from services.prices.cache import CachedSource
from services.prices.series import RawBars
from services.storage.registry import DEFAULT
from services.storage.store import LocalArtifactStore
from tests.fakes import application, new_york_sessions, random_walk

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)
N_SESSIONS = 3_600  # up to a few weeks before NOW
SYMBOL = "WALK"
TARGET_MS = 3.0


class WalkFetcher:
    """One random walk for every ticker."""

    name = "walk"

    def __init__(self) -> None:
        self._bars = RawBars(new_york_sessions(N_SESSIONS), random_walk(N_SESSIONS), "USD")

    def fetch(self, ticker: str, start: date | None, now: datetime) -> RawBars:  # noqa: ARG002 - the protocol's
        return self._bars


@dataclass(frozen=True)
class Case:
    path: str
    body: dict[str, object]
    serve: Callable[[], object]


def main() -> None:
    """Print one line per route."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=(__doc__ or "").split("\n")[0])
    arguments.add_argument("--repeats", type=int, default=1000, help="measured calls (default: %(default)s)")
    repeats = arguments.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        app = _app(Path(folder))
        print(f"{'milliseconds':18} {'service':>16} {'application':>16}    median, 99th percentile; aim: {TARGET_MS:g}")
        for case in _cases(app.state.runtime):
            served = _milliseconds(case.serve, repeats)
            answered = asyncio.run(_answer_milliseconds(app, case, repeats))
            print(f"{case.path:18} {_shown(served)} {_shown(answered)}")


def _app(folder: Path) -> FastAPI:
    settings = Settings(_env_file=None, data_dir=folder)
    prices = CachedSource(WalkFetcher(), LocalArtifactStore(folder), ttl_s=1e9)
    return application(settings, lambda: NOW, prices=prices)


def _cases(runtime: Runtime) -> list[Case]:
    forecasting, levels = runtime.forecasting, DEFAULT_LEVELS
    closes = random_walk(runtime.registry.card(DEFAULT).lookback)[:, 3].tolist()
    return [
        Case(
            "/predict",
            {"symbol": SYMBOL, "prices": closes},
            lambda: forecasting.forecast_closes(runtime.registry.serve(DEFAULT), closes, levels, NOW),
        ),
        Case("/predict/live", {"symbol": SYMBOL}, lambda: forecasting.forecast_ticker(DEFAULT, SYMBOL, 1, levels, NOW)),
        Case(
            "/predict/forecast",
            {"symbol": SYMBOL, "days": 30},
            lambda: forecasting.forecast_ticker(DEFAULT, SYMBOL, 30, levels, NOW),
        ),
    ]


def _milliseconds(call: Callable[[], object], repeats: int) -> list[float]:
    call()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return taken


async def _answer_milliseconds(app: FastAPI, case: Case, repeats: int) -> list[float]:
    body = json.dumps(case.body).encode()
    await post_in_process(app, case.path, body)
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        await post_in_process(app, case.path, body)
        taken.append(1000 * (time.perf_counter() - started))
    return taken


async def post_in_process(app: FastAPI, path: str, body: bytes) -> bytes:
    """The body of the answer, through ASGI without a client; an error status raises."""
    status, content = 0, b""

    async def receive() -> Mapping[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, object]) -> None:
        nonlocal status, content
        if message["type"] == "http.response.start":
            assert isinstance(message["status"], int)  # noqa: S101 - ASGI says so
            status = message["status"]
        else:
            part = message.get("body", b"")
            assert isinstance(part, bytes)  # noqa: S101 - ASGI says so
            content += part

    answered: Awaitable[None] = app(_scope(path, len(body)), receive, send)  # type: ignore[arg-type]
    await answered
    if status != 200:
        raise RuntimeError(f"{path} answered {status}: {content.decode()}")
    return content


def _scope(path: str, n_bytes: int) -> dict[str, object]:
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"%d" % n_bytes)]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }


def _shown(taken: list[float]) -> str:
    return f"{np.median(taken):8.2f} {np.quantile(taken, 0.99):7.2f}"


if __name__ == "__main__":
    main()
