"""Execute the notebook about the client against a server of its own, and store its outputs.

    .venv/bin/python -m tools.notebook

The test of the notebook compares the stored text with that of another execution.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.server import running_server
from config import ROOT

TOUR = ROOT / "notebooks" / "client_tour.ipynb"
WITHIN_S = 180
SAMPLE = {"PRICE_SOURCE": "sample", "NIGHTLY_TICKERS": "^GSPC,^IXIC"}


def read(path: Path) -> Any:
    import nbformat

    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def executed(path: Path, environment: Mapping[str, str]) -> Any:
    """The notebook with its outputs, run from top to bottom in its own folder."""
    from nbclient import NotebookClient  # takes a fifth of a second, and every process of the tests reads this file

    run = read(path)
    before = dict(os.environ)
    os.environ |= environment
    try:
        NotebookClient(
            run, timeout=WITHIN_S, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
        ).execute()
    finally:
        os.environ.clear()
        os.environ |= before
    for cell in run.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
    return run


def executed_tour(
    folder: Path, running: Callable[[Mapping[str, str]], AbstractContextManager[str]] = running_server
) -> Any:
    """The tour, with a server that keeps its data in the folder; ``running`` starts it with its settings."""
    with running({**SAMPLE, "DATA_DIR": str(folder)}) as url:
        return executed(TOUR, {"STOCK_FORECAST_URL": url, "PYTHONPATH": str(ROOT / "client")})


def main() -> None:
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed_tour(Path(folder)), TOUR)  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
