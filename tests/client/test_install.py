"""The client as people install it: ``pip install ./client`` in a bare environment, without the server's modules."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_layers import project_files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
SERVER_MODULES = {path.removesuffix(".py").split("/")[0] for path in project_files()} - {"client"}
PROBE = f"""
import sys
foreign = {sorted(SERVER_MODULES | {"fastapi", "boto3", "tenacity"})} & sys.modules.keys()
assert not foreign, foreign
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment that has the client and pandas, and nothing else of ours."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = str(folder / "venv" / "bin" / "python")
    source = folder / "client"
    shutil.copytree(ROOT / "client", source)  # setuptools writes next to the sources
    pip = [sys.executable, "-m", "pip", "--python", python, "--quiet"]
    command = [*pip, "install", "--no-compile", f"{source}[pandas]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    if done.returncode and "ConnectionError" in done.stderr:
        pytest.skip(f"pip cannot reach a package index: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


def examples(heading: str) -> list[str]:
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", examples("A forecast in three lines"), ids=["sync", "async"])
def test_the_first_lines_of_the_page_run_where_only_the_client_is_installed(
    python: str, server: str, tmp_path: Path, example: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    code = example.replace("http://localhost:8000", server) + PROBE

    done = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert "lower_80" in done.stdout
