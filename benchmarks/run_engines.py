"""The same run on every engine must give the same models: local processes, Ray and AWS Lambda's runtime.

    .venv/ray/bin/python -m benchmarks.run_engines --data DIR [--tickers 4] [--epochs 3] [--engines local ray lambda]

The networks are trained from random weights: a fine-tuning may keep those of its base, which are equal anyway. Ray runs
on one node of this machine. Lambda is the function that trains, behind Lambda's runtime interface emulator and
a stand-in for asynchronous invocations, with its models in an S3 server. Prints a digest of all weights for each
engine; the command fails where they differ.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.run_on_ray import START_WITHIN_S, ray_node
from benchmarks.run_place import add_price_options, digest, follow, load, runtime_of, start, tickers_of, write_universe
from bootstrap import Runtime
from tests.aws.lambda_service import lambda_service
from tests.lambda_runtime import lambda_runtime
from tests.processes import free_port, listens, wait_until
from tests.s3_servers import ACCESS_KEY, SECRET_KEY, moto_server

CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_DEFAULT_REGION": "us-east-1"}


def run(runtime: Runtime, tickers: tuple[str, ...], epochs: int) -> str:
    began = time.monotonic()
    begun = start(runtime, tickers, action="train", training={"epochs": epochs})
    ended = follow(runtime, begun.id)
    runtime.run_executor.close()
    found = digest(tickers_of(runtime, begun.id))
    took_s = time.monotonic() - began
    print(
        f"{ended.engine:7} {ended.counts.succeeded} of {len(tickers)} in {took_s:.0f} s, {found}; {load()}", flush=True
    )
    return found if ended.counts.succeeded == len(tickers) else f"{ended.state}: {ended.failures}"


def on_processes(place: Path, tickers: tuple[str, ...], epochs: int) -> str:
    return run(runtime_of(place / "data"), tickers, epochs)


def on_ray(place: Path, tickers: tuple[str, ...], epochs: int) -> str:
    port = free_port()
    head = ("--head", "--port", str(port), "--include-dashboard", "false", "--temp-dir", str(place / "ray"))
    with ray_node(place, *head):
        wait_until(lambda: listens(port), START_WITHIN_S, "the node")
        return run(runtime_of(place / "data", executor="ray", ray_address=f"127.0.0.1:{port}"), tickers, epochs)


def on_lambda(place: Path, tickers: tuple[str, ...], epochs: int) -> str:
    import os

    port = free_port()
    with moto_server() as s3:
        bucket = {"S3_BUCKET_NAME": s3.bucket, "S3_ENDPOINT_URL": s3.endpoint_url}
        prices = {"PRICE_SOURCE": "csv", "PRICE_DIR": str(place / "data" / "universes" / "benchmark")}
        service = {"AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}"}
        os.environ |= {**CREDENTIALS, **service}
        environment = {**CREDENTIALS, **bucket, **prices, **service, "AWS_REGION": "us-east-1"}
        with (
            lambda_runtime(place / "lambda", environment, "worker.handler") as trainer,
            lambda_service(("127.0.0.1", trainer.port), port),
        ):
            settings = {"s3_bucket_name": s3.bucket, "s3_endpoint_url": s3.endpoint_url}
            return run(runtime_of(place / "data", trainer_function_name="trainer", **settings), tickers, epochs)


ENGINES: dict[str, Callable[[Path, tuple[str, ...], int], str]] = {
    "local": on_processes,
    "ray": on_ray,
    "lambda": on_lambda,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_price_options(parser)
    parser.add_argument("--tickers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=list(ENGINES))
    options = parser.parse_args()
    found = []
    for engine in options.engines:
        with tempfile.TemporaryDirectory(prefix="run", dir="/tmp") as place:  # sockets of Ray need a short path
            tickers = write_universe(Path(place) / "data", options)
            found.append(ENGINES[engine](Path(place), tickers, options.epochs))
    print("the same models" if len(set(found)) == 1 else f"different models: {found}")
    sys.exit(0 if len(set(found)) == 1 else 1)


if __name__ == "__main__":
    main()
