"""Feeds mutated inputs to everything that reads one, and prints what was neither answered rightly nor refused by name.

python -m benchmarks.fuzz --inputs 200000
"""

import argparse
import logging
import time
import traceback

from tests.fuzz.targets import TARGETS, fuzz

SHOWN = 5  # faults of a target


def main(arguments: list[str] | None = None) -> int:
    """The number of targets with a fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=200_000, help="inputs of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one target")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    total = failed = 0
    print(f"{'target':<18}{'inputs':>9}{'answered':>10}{'refused':>9}{'faults':>8}{'seconds':>9}")
    for target in TARGETS:
        if given.only not in (None, target.name):
            continue
        inputs = round(given.inputs * (target.weight if given.only is None else 1))
        started = time.perf_counter()
        report = fuzz(target, inputs, given.seed)
        faults = report.faults
        seconds = time.perf_counter() - started
        print(
            f"{target.name:<18}{inputs:>9,}{report.answered:>10,}{report.refused:>9,}{len(faults):>8,}{seconds:>9.1f}",
            flush=True,
        )
        for number, error in faults[:SHOWN]:
            print(f"  input {number}: {type(error).__name__}: {str(error)[:200]}")
            print("    " + "    ".join(traceback.format_tb(error.__traceback__)[-2:]))
        total += inputs
        failed += bool(faults)
    print(f"{total:,} inputs")
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
