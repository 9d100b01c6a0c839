"""Many interleavings of writers that die: ``python -m benchmarks.races --steps 50000 --store memory --store local``.

Runs the state machine of ``tests/races`` until writers have made so many calls of the store (of an S3 server: so many
requests), and prints what it ran. A failure prints the shortest run that shows it, and ends with status 1.
"""

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.races.machine import Race, race_on, small_model
from tests.s3_servers import ACCESS_KEY, SECRET_KEY, S3Server, missing_radosgw_programs, moto_server, radosgw_server

KINDS = ("memory", "local", "moto", "ignoring", "radosgw")
RACES_AT_ONCE = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000, help="calls of the store, on all stores together")
    parser.add_argument("--store", action="append", choices=KINDS, help="a kind of store; may be given several times")
    parser.add_argument("--length", type=int, default=100, help="rules in one race")
    options = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, AWS_DEFAULT_REGION="us-east-1")
    kinds = options.store or ["memory"]
    for kind in kinds:
        with ExitStack() as stack:
            _race(kind, _server(kind, stack), options.steps // len(kinds), options.length)


def _race(kind: str, server: S3Server | None, steps: int, length: int) -> None:
    machine = race_on(kind, small_model(), server)
    before, started, n_races = Race.total_steps, time.monotonic(), 0
    while Race.total_steps - before < steps:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=RACES_AT_ONCE if server is None else 5,
                stateful_step_count=length,
                deadline=None,
                database=None,
                report_multiple_bugs=False,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
        n_races += RACES_AT_ONCE if server is None else 5
    seconds = time.monotonic() - started
    print(f"{kind}: {Race.total_steps - before} steps in {n_races} races, {seconds:.0f} s, nothing lost", flush=True)


def _server(kind: str, stack: ExitStack) -> S3Server | None:
    if kind in ("memory", "local"):
        return None
    if kind != "radosgw":
        return stack.enter_context(moto_server())
    if missing := missing_radosgw_programs():
        raise SystemExit(f"{', '.join(missing)} not found")
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return stack.enter_context(radosgw_server(Path(folder)))


if __name__ == "__main__":
    main()
