"""Wall time and peak memory of the imports of a cold start, each in fresh interpreters.

    python -m benchmarks.imports [--repeats 5]

Prints the median over the repeats. The time runs from the start of the interpreter to the last line of the program;
one unmeasured run before them writes the bytecode and warms the disk cache. The contrast is a service that imports
its training, scaling and fetching libraries on start-up.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.aws.events import function_url_event

ROOT = Path(__file__).parent.parent

UP_EVENT = function_url_event("GET", "/up")
PROGRAMS = {
    "import app": "import app",
    "import app, first /up": f"import app; assert app.handler({UP_EVENT!r}, None)['statusCode'] == 200",
    "import torch, pytorch_lightning, sklearn.preprocessing, yfinance, fastapi, mangum, boto3": (
        "import torch, pytorch_lightning, sklearn.preprocessing, yfinance, fastapi, mangum, boto3"
    ),
}

# all processes share the monotonic clock, so the child can compute how long ago its parent started it
REPORT = """
import resource, sys, time
print(time.monotonic() - float(sys.argv[1]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True)
class Cost:
    seconds: float
    peak_mb: float


def run_once(program: str) -> Cost:
    """The cost of the program in a fresh interpreter, without ``.env`` and with a clean environment."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"PATH": os.defpath, "PYTHONPATH": str(ROOT), "HOME": folder, "DATA_DIR": folder}
        done = subprocess.run(
            [sys.executable, "-c", program + REPORT, str(time.monotonic())],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    seconds, peak_kib = done.stdout.splitlines()[-1].split()
    return Cost(float(seconds), float(peak_kib) * 1024 / 1e6)


def median_cost(program: str, repeats: int) -> Cost:
    """The medians of ``repeats`` runs, after one that does not count."""
    run_once(program)
    costs = [run_once(program) for _ in range(repeats)]
    return Cost(median(cost.seconds for cost in costs), median(cost.peak_mb for cost in costs))


def main() -> None:
    """Print one line per program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measured runs per program (default: %(default)s)")
    repeats = parser.parse_args().repeats
    print(f"{'seconds':>8}  {'peak MB':>8}  median of {repeats} fresh interpreters")
    for name, program in PROGRAMS.items():
        cost = median_cost(program, repeats)
        print(f"{cost.seconds:8.2f}  {cost.peak_mb:8.0f}  {name}")


if __name__ == "__main__":
    main()
