"""Test the API with schemathesis, which makes requests from the OpenAPI document: ``make fuzz-api``.

It tests a server without keys, and a server with keys that also has limits per key. Each server has sample prices and a
folder of its own. Exit code 1 means that a check failed. Options that this program does not know go to schemathesis,
such as ``--exclude-path=/models/train``.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from benchmarks.server import running_server
from services.access import RIGHTS, new_key

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / ".venv/fuzz/bin/schemathesis"
CONFIG = ROOT / "tools/schemathesis.toml"
SETTINGS = {
    "PRICE_SOURCE": "sample",
    "TRAIN_WAIT_S": "0",
    "MAX_WAITING_TRAININGS": "0",  # trainings would take the cores from the requests
    "LOG_FORMAT": "json",
}
LOADED_WITHIN_S = 120.0
LIMITS = {"RATE_LIMIT_REQUESTS": "1000000", "RATE_LIMIT_CPU_S": "60000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schemathesis", type=Path, default=PROGRAM, help="the program")
    parser.add_argument("--max-examples", type=int, default=100, help="requests per route and phase")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("open", "keys"), help="one of the two servers")
    given, further = parser.parse_known_args()
    secret, key = new_key("fuzz", RIGHTS)
    runs: dict[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
        "open": ({}, ()),
        "keys": ({"API_KEYS": key.entry, **LIMITS}, (f"--header=X-API-Key: {secret}",)),
    }
    options = (f"--max-examples={given.max_examples}", f"--seed={given.seed}", *further)
    codes = [
        _tested(given.schemathesis, settings, [*options, *more])
        for name, (settings, more) in runs.items()
        if given.only in (None, name)
    ]
    sys.exit(max(codes))


def _tested(program: Path, settings: Mapping[str, str], options: list[str]) -> int:
    """The exit code of schemathesis against a fresh server."""
    with TemporaryDirectory() as folder, running_server({**SETTINGS, **settings, "DATA_DIR": folder}) as url:
        # schemathesis waits ten seconds for the document, which a busy machine takes longer to make
        with urlopen(f"{url}/openapi.json", timeout=LOADED_WITHIN_S) as document:  # noqa: S310 - our own server
            document.read()
        command = [str(program), "--config-file", str(CONFIG), "run", f"{url}/openapi.json", *options]
        return subprocess.run(command, check=False, cwd=folder).returncode  # noqa: S603 - our own command


if __name__ == "__main__":
    main()
