"""Holds the documentation to the program: what exists is described, what is described exists, and the commands run."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import requests
from pydantic import JsonValue
from pydantic.fields import FieldInfo

import errors
from config import Settings
from models.specs import MODEL_SPECS
from tests.fakes import application
from tests.processes import free_port

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SESSIONS = [README, ROOT / "README.pt-BR.md", DOCS / "quickstart.md"]  # every command with its answer
DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))
SECTIONS_OF_A_DECISION = ["Context", "Decision", "Consequences", "Alternatives"]
HTTP_CODES = {"malformed_request": 422, "not_found": 404, "method_not_allowed": 405, "request_too_large": 413}
START_S = 60.0
# installs nothing: what make would install into is the environment of whoever runs the tests
MAKE = ["make", *[f"--old-file=.venv/{name}" for name in (".run", ".dev", "sam/.installed")]]
DEMO = "python -m cli demo"  # run by tests/cli/test_processes.py

_SECTION = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?:\]\(|(?:src|srcset|href)=\")([^)#\s\"]*)(?:#([^)\s\"]*))?[)\"]")
_COMMAND = re.compile(r"^```sh\n(.*?)^```(?:\n\n```json\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
OMITTED = "…"
_OMITTED_FIELDS = re.compile(rf"{OMITTED}(?=\s*\}})")


@dataclass(frozen=True)
class Command:
    """A command of a page, and the answer that the page shows right after it."""

    shell: str
    shown: JsonValue


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def sections(page: str) -> Mapping[str, str]:
    """Each heading of the second and third rank, without back-ticks, and the text up to the next."""
    _, *parts = _SECTION.split((ROOT / page).read_text(encoding="utf-8"))
    return {title.replace("`", ""): text for title, text in zip(parts[::2], parts[1::2], strict=True)}


def routes() -> list[str]:
    paths = application(Settings(_env_file=None)).openapi()["paths"]
    return sorted(f"{method.upper()} {path}" for path, methods in paths.items() for method in methods)


def error_codes() -> dict[str, int]:
    """Every code that can be answered, with its status."""
    named = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.AppError)]
    return {error.code: error.status_code for error in named} | HTTP_CODES


def anchors(page: Path) -> set[str]:
    """The headings of a page as addresses: lower case, hyphens for spaces, no other signs."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def default_of(field: FieldInfo) -> str:
    """As a page shows it: what lies in the program's own folder is named from there."""
    value = field.default
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = name_of(value)
    return "" if value is None else f"`{value}`"


def commands(page: Path) -> list[Command]:
    """What a reader can run against a server, in order; what sets up and starts stays out."""
    found = _COMMAND.findall(page.read_text(encoding="utf-8"))
    return [
        Command(shell, read_shown(shown))
        for shell, shown in found
        if not shell.startswith(("make ", "docker-compose "))
    ]


def read_shown(text: str) -> JsonValue:
    """An answer as a page shows it: an item ``…`` stands for any items, at the end of an object for any fields."""
    fields_marked = _OMITTED_FIELDS.sub(f"{OMITTED}: null", text)
    shown: JsonValue = json.loads(fields_marked.replace(OMITTED, f'"{OMITTED}"') or "null")
    return shown


def differences(shown: JsonValue, answered: JsonValue, where: str = "answer") -> Iterator[str]:
    """Where the shape of a shown answer differs from the real one; what is shown inside may be shortened."""
    if isinstance(shown, dict) and isinstance(answered, dict):
        for key in shown.keys() - answered.keys() - {OMITTED}:
            yield f"{where} has no {key}"
        for key in shown.keys() & answered.keys():
            yield from differences(shown[key], answered[key], f"{where}.{key}")
    elif isinstance(shown, list) and isinstance(answered, list):
        for one in filter(lambda item: item != OMITTED, shown):
            yield from differences(one, answered[0] if answered else None, f"{where}[0]")
    elif isinstance(shown, str | bool | None | dict | list) and type(shown) is not type(answered):
        yield f"{where} is {answered!r}, not {shown!r}"


def laid_out() -> list[Path]:
    """The files and folders of the README's layout; an indented one lies in the folder above it."""
    paths: list[Path] = []
    folder = ROOT
    for line in sections("README.md")["Layout"].split("```")[1].strip("\n").splitlines():
        names = re.split(r" {2,}", line.strip())[0].split(", ")
        inside = folder if line.startswith(" ") else ROOT
        paths += [inside / name for name in names]
        folder = inside if line.startswith(" ") else ROOT / names[0]
    return paths


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of the program as ``python app.py`` starts it, with the sample prices and an empty folder."""
    folder = tmp_path_factory.mktemp("served")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "DATA_DIR": str(folder / "var"),
        "PRICE_SOURCE": "sample",
    }
    program = [sys.executable, str(ROOT / "app.py")]
    with (folder / "log").open("w+") as log, running(program, folder, environment, log) as process:
        if not listens(process, port):
            pytest.fail(f"the server did not start: {(folder / 'log').read_text()}")
        yield f"127.0.0.1:{port}"


@contextmanager
def running(
    program: list[str], folder: Path, environment: Mapping[str, str], log: IO[str]
) -> Iterator[subprocess.Popen[bytes]]:
    """The program as a process, which ends with the block, and its children with it."""
    with subprocess.Popen(
        program, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether the process accepts connections before it ends or ``START_S`` has passed."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def run_session(page: Path, server: str) -> list[tuple[Command, JsonValue]]:
    """Every command of the page, run in order, with what it answered; MODEL and JOB are the newest of their kind."""
    if shutil.which("curl") is None:
        pytest.skip("curl not found")
    session: list[tuple[Command, JsonValue]] = []
    names = {"MODEL": "none", "JOB": "none"}
    for command in commands(page):
        if "/retry" in command.shell:
            wait_for_the_end(names["JOB"], server)
        answer = run(command.shell, server, names)
        names |= named(answer)
        session.append((command, answer))
    return session


def wait_for_the_end(job: str, server: str) -> None:
    """A reader takes longer than a worker that is asked to stop; a test does not."""
    deadline = time.monotonic() + START_S
    while run(f"curl localhost:8000/jobs/{job}", server, {})["ended_at"] is None:  # type: ignore[call-overload, index]
        assert time.monotonic() < deadline, f"{job} never ended"
        time.sleep(0.2)


def named(answer: JsonValue) -> dict[str, str]:
    """The model or the job that an answer is about."""
    match answer:
        case {"result": {"id": str(model)}, "message": _}:
            return {"MODEL": model}
        case {"id": str(job), "state": "succeeded", "model_id": str(model)}:
            return {"JOB": job, "MODEL": model}
        case {"id": str(job), "state": _}:
            return {"JOB": job}
        case _:
            return {}


def run(shell: str, server: str, names: Mapping[str, str]) -> JsonValue:
    """The JSON that the command printed; fails on any status of 400 or above."""
    script = shell.replace("localhost:8000", server)
    for name, value in names.items():
        script = re.sub(rf"^{name}=\S+", f"{name}={value}", script, flags=re.MULTILINE)
    quiet = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }'
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **names}
    command = ["bash", "-euc", f"{quiet}\n{script}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    answer: JsonValue = json.loads(done.stdout) if done.stdout else None
    return answer


def made(target: str) -> list[str]:
    """The words of the last command that a target of the Makefile would run."""
    if shutil.which("make") is None:
        pytest.skip("make not found")
    done = subprocess.run(
        [*MAKE, "--dry-run", target],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # without the MAKEFLAGS of the make that may run us
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.splitlines()[-1])


def targets_shown() -> set[str]:
    """Every target of the Makefile that a page names, in a block or in a line."""
    return {
        target
        for page in PAGES
        for target in re.findall(
            r"(?:^|`)make (?:[A-Z_]+=\S+ )*([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    }


def test_every_route_is_described_and_none_that_does_not_exist() -> None:
    described = sorted(title for title in sections("docs/api.md") if re.match(r"[A-Z]+ /", title))

    assert described == routes()


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_setting_is_described(name: str, field: FieldInfo) -> None:
    described = sections("docs/configuration.md").get(name, "")

    assert f"- Environment: `{name.upper()}`\n" in described
    assert f"- Default: {default_of(field) or 'unset'}\n" in described


def test_no_setting_is_described_that_does_not_exist() -> None:
    described = re.findall(r"^### `(\w+)`$", (DOCS / "configuration.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(described) == set(Settings.model_fields)


def test_example_of_an_environment_names_every_setting_that_is_a_users() -> None:
    named = re.findall(r"^([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)

    assert {name.upper() for name in Settings.model_fields} - set(named) == {"AWS_LAMBDA_FUNCTION_NAME"}


def test_every_kind_of_model_is_described_and_none_that_does_not_exist() -> None:
    described = re.findall(r"^\| `(\w+)` \|", sections("docs/api.md")["Kinds of model"], re.MULTILINE)

    assert described == list(MODEL_SPECS)


def test_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    rows = [
        f"| `{name.upper()}` | {default_of(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]

    assert "\n".join(["|---|---|---|", *rows, ""]) in README.read_text(encoding="utf-8")


def test_every_error_code_is_described_with_its_status_and_none_that_does_not_exist() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert {code: int(status) for code, status in rows} == error_codes()


@pytest.mark.parametrize("decision", DECISIONS, ids=name_of)
def test_decision_has_its_four_sections_and_is_listed(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    title, status = re.findall(r"^(?:# \d+\. |Status: )(.+)$", text, re.MULTILINE)
    listed = (DOCS / "adr" / "README.md").read_text(encoding="utf-8")

    assert list(sections(name_of(decision))) == SECTIONS_OF_A_DECISION
    assert f"| [{decision.name[:4]}]({decision.name}) | {title} | {status} |" in listed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if ":" not in link[0]]

    dead = [
        f"{path}#{anchor}"
        for path, anchor in links
        if not (target := page.parent / path if path else page).exists() or (anchor and anchor not in anchors(target))
    ]

    assert dead == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / path).resolve()
        for page in PAGES
        for path, _ in _LINK.findall(page.read_text(encoding="utf-8"))
        if path and (page.parent / path).resolve() != page.resolve()
    }

    assert set(PAGES) - linked == set()


def test_a_difference_between_shown_and_answered_is_told() -> None:
    shown = {"id": "a", "list": [{"x": 1, "gone": 2}], "flag": True}
    answered = {"id": "b", "list": [{"x": 3, "more": 4}], "flag": None, "more": 5}

    found = sorted(differences(shown, answered))  # type: ignore[arg-type]

    assert found == ["answer.flag is None, not True", "answer.list[0] has no gone"]


def test_an_answer_may_be_shown_in_part() -> None:
    shown = read_shown('{"id": "a", "list": [1, …], "inner": {"x": 1, …}, "other": {…}, …}')
    answered = {"id": "b", "list": [2, 3], "inner": {"x": 3, "y": 4}, "other": {"z": 5}, "more": 6}

    found = list(differences(shown, answered))  # type: ignore[arg-type]

    assert found == []


def test_readme_lays_out_what_exists_and_every_package() -> None:
    listed = laid_out()
    packages = {init.parent for pattern in ("*/__init__.py", "services/*/__init__.py") for init in ROOT.glob(pattern)}

    assert [path for path in listed if not path.exists()] == []
    assert packages - set(listed) == set()


def test_every_make_of_a_page_has_its_target() -> None:
    shown = targets_shown()

    assert {"run", "test", "demo"} <= shown
    assert [target for target in sorted(shown) if not made(target)] == []


def test_make_test_runs_pytest_over_everything() -> None:
    _, *program = made("test")

    options = program[2:]
    assert program[:2] == ["-m", "pytest"]
    assert [word for word in options if (ROOT / word).exists()] == []
    assert {"-k", "-m", "--ignore", "--deselect"} & {word.partition("=")[0] for word in options} == set()


def test_make_demo_is_the_demo_that_another_test_runs() -> None:
    assert made("demo")[1:] == DEMO.split()[1:]


@pytest.mark.slow
def test_make_run_serves_the_page_and_the_api(tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make not found")
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATA_DIR": str(tmp_path / "var"),
        "PRICE_SOURCE": "sample",
    }
    program = [*MAKE, f"BIN={Path(sys.executable).parent}", "run"]

    with (tmp_path / "log").open("w+") as log, running(program, ROOT, environment, log) as process:
        assert listens(process, port), (tmp_path / "log").read_text()
        health = requests.get(f"http://127.0.0.1:{port}/health", timeout=30)
        page = requests.get(f"http://127.0.0.1:{port}/", headers={"Accept": "text/html"}, timeout=30)
        docs = requests.get(f"http://127.0.0.1:{port}/docs", timeout=30)

    assert health.json()["status"] == "ok"
    assert "<html" in page.text
    assert docs.status_code == 200
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS, ids=name_of)
def test_commands_of_a_page_run_and_answer_what_is_shown(page: Path, server: str) -> None:
    session = [(command, answered) for command, answered in run_session(page, server) if answered is not None]

    assert session
    for command, answered in session:
        assert isinstance(command.shown, dict), f"no answer is shown below\n{command.shell}"
        assert isinstance(answered, dict)
        assert OMITTED in command.shown or command.shown.keys() == answered.keys()
        assert list(differences(command.shown, answered)) == []


@pytest.mark.slow
def test_commands_of_the_api_page_run(server: str) -> None:
    session = run_session(DOCS / "api.md", server)

    assert len(session) == len(routes()) + 1  # a training is asked for in two ways
