"""Time to the first answer of a sleeping Lambda function, and the function's peak memory.

    python -m benchmarks.cold_start [--repeats 3]

The real handler under Lambda's runtime client and emulator, a fresh function for each row and repeat; medians, after
one run of each that does not count because it warms the disk cache. The first answer is timed from outside: start of
the interpreter, imports, answer. Init is the part before the event arrives. The peak is that of the function's process
after two answers. The contrast is a handler that first imports the libraries of a service that trains, scales and
fetches in one process.
"""

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.lambda_runtime import EMULATOR, EMULATOR_MISSING, ROOT, LambdaRuntime, lambda_runtime

CONTRAST_SOURCE = """
import torch, pytorch_lightning, sklearn.preprocessing, yfinance
from app import handler
"""
CONTRAST_MODULE = "imports_all_first"
HANDLERS = {"app": "app.handler", "torch first": f"{CONTRAST_MODULE}.handler"}

PRICES = [round(28 + 0.05 * day + 0.2 * (day % 3), 2) for day in range(60)]

MOST_SECONDS = {"/up": 1.0, "/predict": 1.5}
MOST_MB = 150.0
LARGEST_SHARE = 0.2  # of the contrast

_INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    body: Mapping[str, object] | None = None


REQUESTS = (
    Request("GET", "/up"),
    Request("POST", "/predict", {"symbol": "PETR4.SA", "prices": PRICES}),
    Request("POST", "/predict/live", {"symbol": "^GSPC"}),
)


@dataclass(frozen=True)
class ColdStart:
    init_s: float
    first_s: float
    second_s: float
    peak_mb: float


def cold_start(handler: str, request: Request) -> ColdStart:
    """Start a function with the sample prices, send the request twice, read its peak memory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / f"{CONTRAST_MODULE}.py").write_text(CONTRAST_SOURCE, encoding="utf-8")
        environment = {"PRICE_SOURCE": "sample", "PYTHONPATH": f"{ROOT}:{folder}"}
        with lambda_runtime(folder / "function", environment, handler) as function:
            first_s, second_s = _seconds_to_answer(function, request), _seconds_to_answer(function, request)
            return ColdStart(_init_s(function), first_s, second_s, _peak_mb(function))


def median_cold_start(handler: str, request: Request, repeats: int) -> ColdStart:
    """The medians of ``repeats`` cold starts, after one that does not count."""
    cold_start(handler, request)
    starts = [cold_start(handler, request) for _ in range(repeats)]
    return ColdStart(
        _median(starts, lambda start: start.init_s),
        _median(starts, lambda start: start.first_s),
        _median(starts, lambda start: start.second_s),
        _median(starts, lambda start: start.peak_mb),
    )


def misses(path: str, start: ColdStart, contrast: ColdStart) -> list[str]:
    """The bounds that a cold start breaks, also in comparison with the contrast; /predict/live has no bounds."""
    if path not in MOST_SECONDS:
        return []
    bounds = {
        f"{MOST_SECONDS[path]} s": start.first_s <= MOST_SECONDS[path],
        f"{MOST_MB:.0f} MB": start.peak_mb < MOST_MB,
        "a fifth of the contrast's time": start.first_s <= LARGEST_SHARE * contrast.first_s,
        "a fifth of the contrast's memory": start.peak_mb <= LARGEST_SHARE * contrast.peak_mb,
    }
    return [bound for bound, kept in bounds.items() if not kept]


def _seconds_to_answer(function: LambdaRuntime, request: Request) -> float:
    started = time.monotonic()
    function.request(request.method, request.path, request.body)
    return time.monotonic() - started


def _init_s(function: LambdaRuntime) -> float:
    log = function.log_file.read_text(errors="replace")
    found = _INIT.search(log)
    if found is None:
        raise RuntimeError(f"the emulator reported no init\n{function.log_tail()}")
    return float(found[1]) / 1000


def _peak_mb(function: LambdaRuntime) -> float:
    """The high-water mark of the function's resident memory, as the kernel keeps it."""
    status = _function_process(function) / "status"
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
    return float(kib) * 1024 / 1e6


def _function_process(function: LambdaRuntime) -> Path:
    """The process in the function's working directory that is not the emulator."""
    here = [link.parent for link in Path("/proc").glob("[0-9]*/cwd") if _target(link) == function.task.resolve()]
    (process,) = [folder for folder in here if _target(folder / "exe").name != EMULATOR.name]
    return process


def _target(link: Path) -> Path:
    try:
        return link.readlink()
    except OSError:  # a process that ended meanwhile, or another user's
        return Path()


def _median(starts: Sequence[ColdStart], figure: Callable[[ColdStart], float]) -> float:
    return median(figure(start) for start in starts)


def _row(name: str, path: str, start: ColdStart) -> str:
    seconds = f"{start.init_s:7.2f}  {start.first_s:7.2f}  {start.second_s:8.3f}"
    return f"{name:<12}  {path:<14}{seconds}  {start.peak_mb:8.0f}"


def main() -> None:
    """Print one line per handler and request, then the broken bounds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="measured cold starts per row (default: %(default)s)")
    repeats = parser.parse_args().repeats
    if not EMULATOR.exists():
        parser.exit(2, f"{EMULATOR_MISSING}\n")
    missed: list[str] = []
    print(f"{'handler':<12}  {'request':<14}{'init s':>7}  {'first s':>7}  {'second s':>8}  {'peak MB':>8}")
    for request in REQUESTS:
        starts = {name: median_cold_start(handler, request, repeats) for name, handler in HANDLERS.items()}
        for name, start in starts.items():
            print(_row(name, request.path, start), flush=True)
        missed += [f"{request.path}: {bound}" for bound in misses(request.path, starts["app"], starts["torch first"])]
    print("\n".join(["broken bounds:", *missed]) if missed else "no bound broken")
    if missed:
        parser.exit(1)


if __name__ == "__main__":
    main()
