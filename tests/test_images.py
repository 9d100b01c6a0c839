"""What images are made of. deploy/build_images.sh builds them and tries each; hadolint checks the Dockerfiles."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_layers import project_files

ROOT = Path(__file__).parent.parent
NOT_IN_IMAGES = {"cli", "client"}  # programs of users, who have the repository
TRAINING_PACKAGES = {"torch", "pytorch-lightning", "onnx", "safetensors", "scikit-learn"}


def let_in() -> set[str]:
    """The files and folders that the Docker engine gets."""
    everything, *patterns = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert everything == "*"
    assert "**/__pycache__" in patterns
    own = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    return {path.relative_to(ROOT).as_posix() for pattern in own for path in ROOT.glob(pattern)}


def pinned(requirements: str) -> dict[str, bool]:
    """The packages of a compiled list, and whether a source file names the package itself."""
    text = (ROOT / requirements).read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==.*\n(?:    --hash=.*\n)*((?:    #.*\n)*)", text, re.MULTILINE)
    return {canonicalize_name(name): "-r " in via for name, via in found}


def sources(name: str) -> set[str]:
    """The packages that a source file and the files that it includes name."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements" / name).read_text("utf-8").splitlines()]
    included = [sources(line.removeprefix("-r ")) for line in lines if line.startswith("-r ")]
    named = [canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("-r ")]
    return set(named).union(*included)


def left_out() -> set[str]:
    """The packages that serve.txt does not install although a package that it installs requires them."""
    text = (ROOT / "requirements/serve.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^# ([\w.-]+)$", text, re.MULTILINE))


def test_the_engine_gets_every_module_of_the_application_and_nothing_private() -> None:
    paths = let_in()

    assert {path.split("/")[0] for path in project_files()} - NOT_IN_IMAGES <= paths
    assert {"web", "requirements.txt", "requirements/serve.txt", "requirements/page.txt"} <= paths
    tops = {path.split("/")[0] for path in paths}
    assert tops.isdisjoint({".git", ".venv", ".env", "var", "tests", "docs", "benchmarks", *NOT_IN_IMAGES})


@pytest.mark.parametrize(
    ("requirements", "source"),
    [
        ("requirements/serve.txt", "serve.in"),
        ("requirements.txt", "train.in"),
        ("requirements/dev.txt", "dev.in"),
        ("requirements/deploy.txt", "deploy.in"),
        ("requirements/docs.txt", "docs.in"),
        ("requirements/peers.txt", "peers.in"),
        ("requirements/supply.txt", "supply.in"),
    ],
)
def test_a_pinned_list_was_compiled_from_its_source(requirements: str, source: str) -> None:
    direct = {name for name, is_direct in pinned(requirements).items() if is_direct}

    assert direct == sources(source), "run: make requirements"


@pytest.mark.parametrize("name", ["serve", "docs", "deploy", "supply", "page"])
def test_every_package_of_a_list_without_torch_has_hashes_and_pip_requires_them(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    installed = [path.read_text(encoding="utf-8") for path in (ROOT / "Makefile", ROOT / "Dockerfile")]
    commands = [
        line for content in installed for line in content.splitlines() if f"{name}.txt" in line and "RUN" in line
    ]
    commands += [line for line in installed[0].splitlines() if f"-r requirements/{name}.txt" in line]

    assert re.findall(r"^[\w.-]+==[^\\]*$", text, re.MULTILINE) == []
    assert commands
    assert all("--require-hashes" in command for command in commands)


def test_the_serving_image_installs_nothing_that_only_trains() -> None:
    serving = set(pinned("requirements/serve.txt"))

    assert serving.isdisjoint(TRAINING_PACKAGES | left_out())
    assert serving | left_out() <= set(pinned("requirements.txt"))
    assert set(pinned("requirements.txt")) >= TRAINING_PACKAGES


def test_what_stands_in_for_the_cloud_needs_the_tests_and_boto3_alone(tmp_path: Path) -> None:
    """Its container has neither the application nor the packages that the application requires."""
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    probe = "import sys, tests.aws.cloud; print({name.partition('.')[0] for name in sys.modules} - {'tests'})"

    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert not {"pydantic", "tenacity", "numpy", "pytest"} & set(re.findall(r"\w+", done.stdout))


def test_a_package_that_the_script_installs_alone_is_one_line() -> None:
    script = (ROOT / "deploy/build_images.sh").read_text(encoding="utf-8")
    (command,) = re.findall(r"\$\((grep .*? requirements/serve\.txt)\)", script)

    found = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert re.fullmatch(r"boto3==[\d.]+\n", found)
