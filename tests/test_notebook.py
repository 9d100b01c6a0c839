"""The notebook is committed without outputs, and every cell runs from top to bottom."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "eda_and_training.ipynb"
WITHIN_S = 180


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = [cell for cell in notebook().cells if cell.cell_type == "code"]

    assert cells
    assert [cell for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")
def test_the_notebook_runs_from_top_to_bottom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "TMPDIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    run = notebook()

    NotebookClient(
        run, timeout=WITHIN_S, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}
    ).execute()

    cells = [cell for cell in run.cells if cell.cell_type == "code"]
    printed = "".join(str(output.get("text", "")) for cell in cells for output in cell.outputs)
    drawn = [output for cell in cells for output in cell.outputs if "image/png" in output.get("data", {})]
    assert "persistence" in printed
    assert len(drawn) >= 6
    assert [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"] == []
    assert list(tmp_path.glob("stock-forecast-*/models/*/metadata.json"))
