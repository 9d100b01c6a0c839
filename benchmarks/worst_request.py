"""How long the largest requests that are refused keep the event loop busy: one line per kind, the slowest of five.

Processor time of this process, the client's share included: what else the machine does is no matter.

python -m benchmarks.worst_request
"""

import gzip
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


JSON = {"Content-Type": "application/json"}
MAX_HEAD = 60_000  # uvicorn refuses a head of 64 kB
DEEP = b"[" * MAX_BYTES
REQUESTS: Mapping[str, tuple[str, str, Mapping[str, str], bytes]] = {
    "deeply nested lists": ("POST", "/predict/live", JSON, DEEP),
    "deeply nested objects": ("POST", "/predict/live", JSON, b'{"a":' * (MAX_BYTES // 5)),
    "deep lists that end": ("POST", "/predict/live", JSON, b"[" * (MAX_BYTES // 2) + b"]" * (MAX_BYTES // 2)),
    "long number": ("POST", "/predict", JSON, b'{"prices":[' + b"9" * (MAX_BYTES - 20) + b"]}"),
    "many equal keys": ("POST", "/predict/live", JSON, b"{" + b'"symbol":0,' * (MAX_BYTES // 11 - 2) + b'"a":0}'),
    "invalid UTF-8": ("POST", "/predict/live", JSON, b'{"symbol":"' + b"\xff" * (MAX_BYTES - 20) + b'"}'),
    "escaped surrogates": ("POST", "/predict/live", JSON, b'{"symbol":"' + b"\\ud800" * (MAX_BYTES // 6 - 5) + b'"}'),
    "not JSON": ("POST", "/predict/live", JSON, b"\x00" * MAX_BYTES),
    "gzipped body": ("POST", "/predict/live", JSON | {"Content-Encoding": "gzip"}, gzip.compress(b"0" * 10**8)),
    "multipart body": (
        "POST",
        "/predict/live",
        {"Content-Type": "multipart/form-data; boundary=x"},
        b"--x\r\n\r\n\r\n" * (MAX_BYTES // 9),
    ),
    "form": ("POST", "/predict/live", {"Content-Type": "application/x-www-form-urlencoded"}, b"a&" * (MAX_BYTES // 2)),
    "many query parameters": ("GET", "/models?" + "a&" * (MAX_HEAD // 2), {}, b""),
    "many equal query parameters": ("GET", "/models?" + "limit=x&" * (MAX_HEAD // 8), {}, b""),
    "many unknown query parameters": (
        "GET",
        "/analysis/^GSPC?" + "".join(f"k{number}=&" for number in range(MAX_HEAD // 8)),
        {},
        b"",
    ),
    "long path": ("GET", "/models/" + "a" * MAX_HEAD, {}, b""),
    "path of many segments": ("GET", "/models/aliases/" + "a/" * (MAX_HEAD // 2), {}, b""),
    "path of many actions": ("GET", "/models/" + "predict/" * (MAX_HEAD // 8), {}, b""),
    "escaped path": ("GET", "/analysis/" + "%ff" * (MAX_HEAD // 3), {}, b""),
    "wrong method": ("DELETE", "/models/train" + "/predict" * (MAX_HEAD // 8), {}, b""),
    "large header": ("GET", "/none", {"X-Large": "a" * MAX_HEAD}, b""),
    "many headers": ("GET", "/none", {f"X-{number}": "a" for number in range(MAX_HEAD // 12)}, b""),
    "many cookies": ("GET", "/none", {"Cookie": "a=b;" * (MAX_HEAD // 4)}, b""),
    "long host": ("GET", "/up", {"Host": "a." * (MAX_HEAD // 2)}, b""),
    "many ETags": ("GET", "/openapi.json", {"If-None-Match": "a," * (MAX_HEAD // 2)}, b""),
    "many media types": ("GET", "/metrics", {"Accept": "a/b;q=0.1," * (MAX_HEAD // 10)}, b""),
    "many preferences": ("POST", "/models/train", JSON | {"Prefer": "wait=1," * (MAX_HEAD // 7)}, b"{}"),
    "many ranges": ("GET", "/static/style.css", {"Range": "bytes=" + "0-0," * (MAX_HEAD // 4)}, b""),
    "many encodings": ("GET", "/openapi.json", {"Accept-Encoding": "gzip," * (MAX_HEAD // 5)}, b""),
}


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(_env_file=None, price_source="sample", data_dir=Path(folder))
        runtime = Runtime.from_settings(settings)
        with TestClient(create_app(runtime), raise_server_exceptions=False) as client:
            client.post("/models/default/backtest", json={"horizon": 0})  # imports and compiles what it needs
            client.get("/openapi.json")
            warm_up(runtime.registry, runtime.clock())
            worst = {kind: slowest_ms(client, kind[0], body) for kind, body in BODIES.items()}
            worst |= {
                (path.partition("?")[0][:30], name): _slowest_ms(client, *request)
                for name, request in REQUESTS.items()
                for path in [request[1]]
            }
    for (path, what), elapsed in sorted(worst.items(), key=lambda one: -one[1]):
        print(f"{elapsed:7.1f} ms  {path}  {what}")
    print(f"bound {TARGET_MS:g} ms: {'met' if max(worst.values()) <= TARGET_MS else 'missed'}")


def slowest_ms(client: TestClient, path: str, body: object) -> float:
    """Of an answer with 422, from the body's first byte to the answer's last."""
    content = json.dumps(body, separators=(",", ":")).encode()
    return _slowest_ms(client, "POST", path, JSON, content, status=422)


def _slowest_ms(
    client: TestClient, method: str, path: str, headers: Mapping[str, str], content: bytes, status: int | None = None
) -> float:
    """Any answer but an unexpected failure counts, unless ``status`` names the one."""
    assert len(content) <= MAX_BYTES, (path, len(content))  # noqa: S101 - our own mistake
    elapsed = []
    for _ in range(REPEATS):
        started = time.process_time()
        answer = client.request(method, path, content=content, headers=dict(headers))
        elapsed.append(1000 * (time.process_time() - started))
        assert answer.status_code == status or (status is None and answer.status_code != 500), answer.text[:200]  # noqa: S101
    return max(elapsed)


if __name__ == "__main__":
    main()
