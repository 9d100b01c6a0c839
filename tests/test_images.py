"""Holds what images are made of: right files, right packages, pinned bases; building them needs a Docker engine."""

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config import Settings
from tests.test_layers import project_files

ROOT = Path(__file__).parent.parent
DOCKERFILES = ("Dockerfile", "Dockerfile.local")
PRIVATE = (".git", ".venv", "var", "tests", ".env", "docs", "benchmarks")
NOT_IN_IMAGES = {"cli", "client"}  # for whoever has the repository
TRAINING_PACKAGES = {"torch", "pytorch-lightning", "onnx", "safetensors", "scikit-learn"}
FILE_SETTINGS = {"MODEL_PATH", "METADATA_PATH", "PRICE_DIR"}  # the container does not see the machine's files
PYTHONS = ("3.11", "3.12", "3.13")

Instruction = tuple[str, str]


def instructions(dockerfile: str) -> list[Instruction]:
    """Each instruction's name and the rest of it, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / dockerfile).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines) if name]


def arguments(dockerfile: str, name: str) -> list[str]:
    return [rest for found, rest in instructions(dockerfile) if found == name]


def copied(dockerfile: str) -> list[str]:
    """What the image takes from the repository; a name may be a pattern."""
    own = [rest.split() for rest in arguments(dockerfile, "COPY") if "--from=" not in rest]
    return [source for *sources, _target in own for source in sources]


def matches(patterns: Iterable[str]) -> set[str]:
    """The files and folders of the repository that the patterns stand for."""
    return {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}


def stage(dockerfile: str, name: str) -> list[Instruction]:
    """The instructions of one stage, FROM first."""
    stages: list[list[Instruction]] = []
    for instruction in instructions(dockerfile):
        if instruction[0] == "FROM":
            stages.append([])
        if stages:
            stages[-1].append(instruction)
    return next(found for found in stages if found[0][1].endswith(f" AS {name}"))


def ignore_patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def pinned(requirements: str) -> set[str]:
    """The packages that a compiled list installs."""
    text = (ROOT / requirements).read_text(encoding="utf-8")
    return {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}


def left_out() -> set[str]:
    """The packages that serve.txt names at its end as not installed, though some of its packages ask for them."""
    text = (ROOT / "requirements/serve.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^# ([\w.-]+)$", text, re.MULTILINE))


def asked_to_serve(python: str) -> set[str]:
    """Every package that serve.in asks for, at first or second hand, but not through one that is left out."""
    lines = (ROOT / "requirements/serve.in").read_text(encoding="utf-8").splitlines()
    waiting = [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]
    done: set[tuple[str, ...]] = set()
    while waiting:
        asked = waiting.pop()
        key = (canonicalize_name(asked.name), *sorted(asked.extras))
        if key not in done and key[0] not in left_out():
            waiting.extend(asked_by(asked, python))
        done.add(key)
    return {name for name, *_extras in done}


def asked_by(package: Requirement, python: str) -> Iterator[Requirement]:
    """What the installed package asks for on Linux with that Python."""
    for text in requires(package.name) or []:
        asked = Requirement(text)
        places = [
            {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": extra}
            for extra in ("", *package.extras)
        ]
        if asked.marker is None or any(asked.marker.evaluate(place) for place in places):
            yield asked


def api_service() -> dict[str, Any]:
    service: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"][
        "api"
    ]
    return service


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_every_copied_path_exists_and_reaches_the_engine(dockerfile: str) -> None:
    sources = copied(dockerfile)

    assert [source for source in sources if not matches([source])] == []
    let_in = {pattern.removeprefix("!") for pattern in ignore_patterns() if pattern.startswith("!")}
    assert matches(sources) <= matches(let_in)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_every_module_of_the_application_is_copied(dockerfile: str) -> None:
    tops = {path.split("/")[0] for path in project_files()} - NOT_IN_IMAGES

    assert tops <= matches(copied(dockerfile))


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_bases_have_a_version(dockerfile: str) -> None:
    defaults = dict(rest.split("=", 1) for rest in arguments(dockerfile, "ARG"))
    froms = [rest.split(" AS ") for rest in arguments(dockerfile, "FROM")]

    bases = {base for base, *_ in froms} - {name for _, *names in froms for name in names}

    assert bases == {"${BASE_IMAGE}"}
    assert re.search(r":\$\{PYTHON_VERSION\}(-slim)?$", defaults["BASE_IMAGE"])
    assert re.fullmatch(r"3\.1[2-9]", defaults["PYTHON_VERSION"])


def test_serve_stage_installs_its_list_and_nothing_besides() -> None:
    (install,) = [rest for name, rest in stage("Dockerfile", "serve-packages") if name == "RUN"]

    assert "install_packages.sh /build/serve.txt /packages --no-deps" in install
    assert ("COPY", "--from=serve-packages /packages ${LAMBDA_TASK_ROOT}") in stage("Dockerfile", "serve")


def test_nothing_that_trains_is_installed_to_serve() -> None:
    serving = pinned("requirements/serve.txt")

    assert serving
    assert (TRAINING_PACKAGES | left_out()).isdisjoint(serving)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_list_to_serve_lacks_only_what_is_left_out_on_purpose(python: str) -> None:
    asked = asked_to_serve(python)

    assert asked - pinned("requirements/serve.txt") <= left_out()


def test_the_list_to_serve_holds_nothing_that_nobody_asks_for() -> None:
    asked = set[str]().union(*map(asked_to_serve, PYTHONS))

    assert pinned("requirements/serve.txt") - asked == set()


@pytest.mark.parametrize("requirements", ["requirements.txt", "requirements/dev.txt"])
def test_only_the_list_to_serve_leaves_something_out(requirements: str) -> None:
    everything = pinned("requirements/serve.txt") | left_out()

    assert everything <= pinned(requirements)


def test_the_image_built_by_default_can_train() -> None:
    last = arguments("Dockerfile", "FROM")[-1]

    assert last == "function AS train"
    assert ("COPY", "--from=train-packages /packages ${LAMBDA_TASK_ROOT}") in stage("Dockerfile", "train")


def test_lambda_runs_the_handler() -> None:
    assert arguments("Dockerfile", "CMD") == ['["app.handler"]']


def test_local_image_does_not_run_as_root() -> None:
    found = [name for name, _ in instructions("Dockerfile.local")]

    assert arguments("Dockerfile.local", "USER") == ["app"]
    assert found.index("USER") < found.index("CMD")


def test_local_image_asks_up_for_its_health() -> None:
    (check,) = arguments("Dockerfile.local", "HEALTHCHECK")

    assert "urllib.request" in check
    assert "/up" in check


def test_what_is_private_never_reaches_the_engine() -> None:
    everything, *rest = ignore_patterns()

    assert everything == "*"
    let_in = {pattern.removeprefix("!").split("/")[0] for pattern in rest if pattern.startswith("!")}
    assert let_in.isdisjoint(PRIVATE)
    assert "**/__pycache__" in rest


def test_compose_builds_the_local_image_from_files_that_exist() -> None:
    build = api_service()["build"]

    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    assert build["dockerfile"] == "Dockerfile.local"


def test_compose_needs_no_variable_to_be_set() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    variables = re.findall(r"\$\{(\w+)(:?-)?", text)

    assert variables
    assert [name for name, default in variables if not default] == []
    assert "env_file" not in api_service()


def test_compose_passes_every_setting_that_names_no_file() -> None:
    passed = api_service()["environment"]

    settings = {name.upper() for name in Settings.model_fields} - FILE_SETTINGS - {"AWS_LAMBDA_FUNCTION_NAME"}
    assert settings - passed.keys() == set()


def test_compose_keeps_the_data_in_a_volume() -> None:
    service = api_service()

    assert service["environment"]["DATA_DIR"] == "/data"
    assert "data:/data" in service["volumes"]


def test_compose_watches_over_the_service() -> None:
    service = api_service()

    assert service["restart"] == "unless-stopped"
    assert "/up" in service["healthcheck"]["test"][-1]


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_the_page_and_its_chart_library_are_in_every_image(dockerfile: str) -> None:
    assert {"web", "requirements/page.txt"} <= set(copied(dockerfile))
    installs = [rest for rest in arguments(dockerfile, "RUN") if "install_packages.sh" in rest]
    assert all("/build/page.txt /packages --no-deps --require-hashes" in rest for rest in installs)
