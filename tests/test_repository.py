"""Contributors' pages, CI and hooks name files and commands that exist."""

import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from app import VERSION

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"^### ([^\n]+)\n(.*?)(?=^### |\Z)", CONTRIBUTING, re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent
JOBS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]


def named_files(text: str) -> list[str]:
    """Every file and folder that the text names between back-ticks."""
    return re.findall(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|md|in|toml|html|example)|(?:[\w.-]+/)+)`", text)


def test_there_is_a_recipe_for_a_model_kind_a_price_source_and_a_route() -> None:
    assert [title for title, _ in RECIPES] == ["Add a model kind", "Add a price source", "Add a route"]


@pytest.mark.parametrize(("title", "recipe"), RECIPES, ids=[title for title, _ in RECIPES])
def test_every_file_of_a_recipe_exists(title: str, recipe: str) -> None:
    files = named_files(recipe)

    assert len(files) > 8, title
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_ci_runs_the_same_script_on_every_supported_python_and_measures_coverage_once() -> None:
    job = JOBS["test"]
    (script,) = [step for step in job["steps"] if step.get("run") == ".ci/run"]
    matrix = [(entry["python"], entry["tests"]) for entry in job["strategy"]["matrix"]["include"]]

    assert matrix == [("3.11", "test"), ("3.12", "test"), ("3.13", "coverage")]
    assert script["env"].items() >= {"PYTHON": "python${{ matrix.python }}", "TESTS": "${{ matrix.tests }}"}.items()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_ci_builds_the_documentation_and_the_images() -> None:
    assert "make docs" in [step.get("run") for step in JOBS["test"]["steps"]]
    assert "deploy/build_images.sh" in [step.get("run") for step in JOBS["images"]["steps"]]


def test_ci_audits_the_requirements_of_training_and_of_serving() -> None:
    (command,) = [step["run"] for step in JOBS["audit"]["steps"] if "--requirement" in step.get("run", "")]

    assert re.findall(r"--requirement (\S+)", command) == ["requirements.txt", "requirements/serve.txt"]


def test_pre_commit_hooks_run_the_pinned_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    programs = [hook["entry"].split()[0] for hook in repository["hooks"]]

    assert repository["repo"] == "local"
    assert programs == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy"]
    assert [program for program in programs if not (BIN / Path(program).name).exists()] == []


def test_security_page_has_its_three_sections() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)

    assert headings == ["Report a vulnerability", "Supported versions", "What the program promises"]


def test_the_version_has_one_place() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert "version" not in configuration["project"]
    assert configuration["project"]["dynamic"] == ["version"]
    assert configuration["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "app.VERSION"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
