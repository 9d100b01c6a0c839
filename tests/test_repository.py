"""Holds the pages, CI and hooks for contributors to the repository: what they name exists, and is run."""

import os
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app import VERSION

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def named_files(text: str) -> list[str]:
    """Everything between back-ticks that is written like a file or a folder of this repository."""
    return re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|in|toml|html|example)|(?:[\w.-]+/)+)`", text)


def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    return loaded


def test_there_is_a_recipe_for_a_model_kind_a_price_source_and_a_route() -> None:
    assert [title for title, _ in RECIPES] == ["Add a model kind", "Add a price source", "Add a route"]


@pytest.mark.parametrize(("title", "recipe"), RECIPES, ids=[title for title, _ in RECIPES])
def test_every_file_of_a_recipe_exists(title: str, recipe: str) -> None:
    files = named_files(recipe)

    assert len(files) > 8, title
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_ci_runs_the_same_script_on_every_supported_python() -> None:
    job = workflow()["jobs"]["test"]
    (script,) = [step for step in job["steps"] if step.get("run") == ".ci/run"]
    pythons = [entry["python"] for entry in job["strategy"]["matrix"]["include"]]

    assert pythons == ["3.11", "3.12", "3.13"]
    assert script["env"]["PYTHON"] == "python${{ matrix.python }}"
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_ci_measures_coverage_once() -> None:
    targets = [entry["tests"] for entry in workflow()["jobs"]["test"]["strategy"]["matrix"]["include"]]

    assert sorted(targets) == ["coverage", "test", "test"]


def test_ci_audits_the_requirements_of_training_and_of_serving() -> None:
    (command,) = [
        step["run"] for step in workflow()["jobs"]["audit"]["steps"] if "--requirement" in step.get("run", "")
    ]
    audited = re.findall(r"--requirement (\S+)", command)

    assert audited == ["requirements.txt", "requirements/serve.txt"]
    assert all((ROOT / file).exists() for file in audited)


def test_hooks_before_a_commit_run_the_pinned_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    programs = [hook["entry"].split()[0] for hook in repository["hooks"]]

    assert repository["repo"] == "local"
    assert programs == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]
    assert [program for program in programs if not (BIN / Path(program).name).exists()] == []


def test_security_page_says_how_to_report_what_is_supported_and_what_is_promised() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert headings == ["Report a vulnerability", "Supported versions", "What the program promises"]


def test_the_version_has_one_place() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert "version" not in configuration["project"]
    assert configuration["project"]["dynamic"] == ["version"]
    assert configuration["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "app.VERSION"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
