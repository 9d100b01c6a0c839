"""How long the largest bodies that are refused keep the server busy: one line per kind, the slowest of five.

python -m benchmarks.worst_request
"""

import json
import logging
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from fastapi.testclient import TestClient

from app import create_app
from bootstrap import Runtime
from config import Settings
from services.warm_up import warm_up

TARGET_MS = 50.0
REPEATS = 5
MAX_BYTES = Settings.model_fields["max_body_bytes"].default  # a larger one is refused before it is read
N = MAX_BYTES // 2 - 50  # items of two bytes each

BODIES: Mapping[tuple[str, str], object] = {
    ("/models/default/backtest", "quantile_levels"): {"quantile_levels": [0] * N},
    ("/models/default/backtest", "levels"): {"levels": [0] * N},
    ("/models/default/predict", "levels"): {"levels": [0] * N},
    ("/models/default/forecast", "levels"): {"levels": [0] * N},
    ("/models/train", "tickers"): {"tickers": ["A"] * (N // 2)},
    ("/predict", "prices"): {"prices": [0] * N},
    ("/predict", "prices as text"): {"prices": ["a"] * (N // 2)},
    ("/predict/batch", "symbols"): {"symbols": ["A"] * (N // 2)},
    ("/predict/live", "a list for a symbol"): {"symbol": [0] * N},
    ("/predict/live", "a long symbol"): {"symbol": "A" * (2 * N)},
    ("/predict/live", "unknown fields"): {f"k{number}": 0 for number in range(MAX_BYTES // 12)},
    ("/predict/live", "nested lists"): {"symbol": [[0]] * (N // 2)},
}


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, price_source="sample", data_dir=Path(folder))
        runtime = Runtime.from_settings(settings)
        with TestClient(create_app(runtime)) as client:
            client.post("/models/default/backtest", json={"horizon": 0})  # imports and compiles what it needs
            warm_up(runtime.registry, runtime.clock())
            worst = {kind: slowest_ms(client, kind[0], body) for kind, body in BODIES.items()}
    for (path, what), elapsed in sorted(worst.items(), key=lambda one: -one[1]):
        print(f"{elapsed:7.1f} ms  {path}  {what}")
    print(f"bound {TARGET_MS:g} ms: {'met' if max(worst.values()) <= TARGET_MS else 'missed'}")


def slowest_ms(client: TestClient, path: str, body: object) -> float:
    """Of an answer with 422, from the body's first byte to the answer's last."""
    content = json.dumps(body, separators=(",", ":")).encode()
    assert len(content) <= MAX_BYTES, (path, len(content))  # noqa: S101 - our own mistake
    elapsed = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        answer = client.post(path, content=content, headers={"Content-Type": "application/json"})
        elapsed.append(1000 * (time.perf_counter() - started))
        assert answer.status_code == 422, answer.text[:200]  # noqa: S101 - else nothing was measured
    return max(elapsed)


if __name__ == "__main__":
    main()
