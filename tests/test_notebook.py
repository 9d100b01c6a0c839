"""The notebooks run from top to bottom. The one about the client is committed with its outputs, the other without."""

from pathlib import Path
from typing import Any

import pytest

from tests.forked_servers import ForkedServers
from tools.notebook import TOUR, WITHIN_S, executed, executed_tour, read

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "eda_and_training.ipynb"


def texts(notebook: Any) -> list[str]:
    """What the cells print and show, as text, without pictures."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return [text for text in shown if not text.startswith("<Figure")]


def pictures(notebook: Any) -> list[str]:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


@pytest.fixture
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the kernel writes, instead of in the user's home."""
    for name in ("HOME", "TMPDIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = [cell for cell in read(NOTEBOOK).cells if cell.cell_type == "code"]

    assert cells
    assert [cell for cell in cells if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")
def test_the_notebook_runs_from_top_to_bottom(own_folder: Path) -> None:
    run = executed(NOTEBOOK, {})

    cells = [cell for cell in run.cells if cell.cell_type == "code"]
    printed = "".join(str(output.get("text", "")) for cell in cells for output in cell.outputs)
    assert "persistence" in printed
    assert len(pictures(run)) >= 6
    assert [output.text for cell in cells for output in cell.outputs if output.get("name") == "stderr"] == []
    assert list(own_folder.glob("stock-forecast-*/models/*/metadata.json"))


@pytest.mark.slow
@pytest.mark.timeout(WITHIN_S)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client")
def test_the_tour_shows_what_it_prints_and_has_its_pictures(servers: ForkedServers, own_folder: Path) -> None:
    """``python -m tools.notebook`` stores the outputs again."""
    committed = read(TOUR)

    run = executed_tour(own_folder / "data", servers.running)

    assert texts(committed) == texts(run)
    assert len(pictures(committed)) == len(pictures(run)) >= 3
    assert [one for cell in run.cells for one in cell.get("outputs", []) if one.get("name") == "stderr"] == []
