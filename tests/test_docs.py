"""The documentation describes what exists and nothing else, its commands run, and the site builds."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from pydantic import JsonValue
from pydantic.fields import FieldInfo

import errors
from app import app
from benchmarks import readme
from config import Settings
from models.specs import MODEL_SPECS
from tests.processes import free_port, listens, wait_until
from tools.docs_site import anchor_of, with_local_links, with_reference

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
DECISIONS = sorted((DOCS / "adr").glob("[0-9]*.md"))
MKDOCS = ROOT / ".venv/docs/bin/mkdocs"
HTTP_CODES = {"malformed_request": 422, "not_found": 404, "method_not_allowed": 405, "request_too_large": 413}
START_S = 60.0
# installs nothing: what make would install into is the environment that runs the tests
MAKE = [
    "make",
    *[
        f"--old-file=.venv/{name}"
        for name in (
            ".run",
            ".dev",
            ".mcp",
            *(f"{tool}/.installed" for tool in ("sam", "docs", "fuzz", "peers", "ray")),
        )
    ],
]


_SECTION = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
_LINK = re.compile(r"(?:\]\(|(?:src|srcset|href)=\")([^)#\s\"]*)(?:#([^)\s\"]*))?[)\"]")
_COMMAND = re.compile(r"^```sh\n(.*?)^```(?:\n\n```json\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
OMITTED = "…"
_OMITTED_FIELDS = re.compile(rf"{OMITTED}(?=\s*\}})")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def sections(page: str) -> Mapping[str, str]:
    """Each heading of the second and third rank, without back-ticks, and the text up to the next."""
    _, *parts = _SECTION.split(text_of(page))
    return {title.replace("`", ""): text for title, text in zip(parts[::2], parts[1::2], strict=True)}


def routes() -> list[str]:
    return sorted(f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods)


def default_of(field: FieldInfo) -> str:
    """As a page shows it: a path in the program's own folder is relative to that folder."""
    value = field.default
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = name_of(value)
    return "unset" if value is None else f"`{value}`"


def commands(page: Path) -> list[tuple[str, JsonValue]]:
    """The commands that a reader runs against a server, each with the answer shown below it."""
    found = _COMMAND.findall(page.read_text(encoding="utf-8"))
    return [(shell, read_shown(shown)) for shell, shown in found if shell.startswith(("curl ", "JOB=", "MODEL="))]


def read_shown(text: str) -> JsonValue:
    """An answer as a page shows it: an item ``…`` stands for any items, at the end of an object for any fields."""
    fields_marked = _OMITTED_FIELDS.sub(f"{OMITTED}: null", text)
    shown: JsonValue = json.loads(fields_marked.replace(OMITTED, f'"{OMITTED}"') or "null")
    return shown


def differences(shown: JsonValue, answered: JsonValue, where: str = "answer") -> Iterator[str]:
    """Where the shape of a shown answer differs from the real one, which may have more."""
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


def run_session(page: Path, server: str) -> list[tuple[JsonValue, JsonValue]]:
    """What each command of the page, run in order, shows and answers; the names are the newest of each kind."""
    if shutil.which("curl") is None:
        pytest.skip("curl not found")
    names = {"MODEL": "none", "JOB": "none", "RUN": "none"}
    session: list[tuple[JsonValue, JsonValue]] = []
    for shell, shown in commands(page):
        if "/retry" in shell:
            wait_for_the_end(f"jobs/{names['JOB']}", server)
        if "/resume" in shell:
            wait_for_the_end(f"runs/{names['RUN']}", server)
        answer = run(shell, server, names)
        names |= named(answer)
        session.append((shown, answer))
    return session


def wait_for_the_end(path: str, server: str) -> None:
    wait_until(lambda: requests.get(f"{server}/{path}", timeout=30).json()["ended_at"] is not None, START_S, path)


def named(answer: JsonValue) -> dict[str, str]:
    """The model, the job or the run that an answer is about."""
    match answer:
        case {"result": {"id": str(model)}, "message": _}:
            return {"MODEL": model}
        case {"id": str(job), "state": "succeeded", "model_id": str(model)}:
            return {"JOB": job, "MODEL": model}
        case {"id": str(run), "state": _, "n_tickers": _}:
            return {"RUN": run}
        case {"id": str(job), "state": _}:
            return {"JOB": job}
        case _:
            return {}


def run(shell: str, server: str, names: Mapping[str, str]) -> JsonValue:
    """The JSON that the command printed, None for a table; fails on any status of 400 or above."""
    script = shell.replace("localhost:8000", server.removeprefix("http://"))
    for name, value in names.items():
        script = re.sub(rf"^{name}=\S+", f"{name}={value}", script, flags=re.MULTILINE)
    strict = 'curl() { command curl --silent --show-error --fail-with-body "$@"; }'
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*", **names}
    command = ["bash", "-euc", f"{strict}\n{script}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    answer: JsonValue = json.loads(done.stdout) if done.stdout.startswith(("{", "[", '"')) else None
    return answer


def made(target: str) -> list[str]:
    """The words of the last command that a target of the Makefile would run."""
    if shutil.which("make") is None:
        pytest.skip("make not found")
    done = subprocess.run(
        [*MAKE, "--dry-run", target],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},  # without the MAKEFLAGS of a make around the tests
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return shlex.split(done.stdout.splitlines()[-1])


def test_every_route_is_described_and_no_other() -> None:
    described = sorted(title for title in sections("docs/api.md") if re.match(r"[A-Z]+ /", title))

    assert described == routes()


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_every_setting_is_described(name: str, field: FieldInfo) -> None:
    described = sections("docs/configuration.md").get(name, "")

    assert f"- Environment: `{name.upper()}`\n" in described
    assert f"- Default: {default_of(field)}\n" in described


def test_no_other_setting_is_described() -> None:
    described = re.findall(r"^### `(\w+)`$", text_of("docs/configuration.md"), re.MULTILINE)

    assert set(described) == set(Settings.model_fields)


def test_example_of_an_environment_names_every_setting_that_users_set() -> None:
    named = re.findall(r"^([A-Z0-9_]+)=", text_of(".env.example"), re.MULTILINE)

    assert {name.upper() for name in Settings.model_fields} - set(named) == {"AWS_LAMBDA_FUNCTION_NAME"}


def test_every_kind_of_model_is_described_and_no_other() -> None:
    described = re.findall(r"^\| `(\w+)` \|", sections("docs/api.md")["Kinds of model"], re.MULTILINE)

    assert described == list(MODEL_SPECS)


def test_every_error_code_is_described_with_its_status_and_no_other() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    codes = {error.code: error.status_code for error in classes if issubclass(error, errors.AppError)} | HTTP_CODES
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", text_of("docs/errors.md"), re.MULTILINE)

    assert {code: int(status) for code, status in rows} == codes


def test_the_page_about_versions_says_whether_anything_is_deprecated() -> None:
    """The first route or field that is marked needs the headers that the page promises, and another sentence there."""
    is_marked = '"deprecated": true' in json.dumps(app.openapi())

    assert ("Nothing is deprecated today" in text_of("docs/versioning.md")) != is_marked
    assert ("### Deprecated" in text_of("CHANGELOG.md")) == is_marked


@pytest.mark.parametrize("decision", DECISIONS, ids=name_of)
def test_decision_has_its_four_sections_and_is_listed(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    title, status = re.findall(r"^(?:# \d+\. |Status: )(.+)$", text, re.MULTILINE)

    assert list(sections(name_of(decision))) == ["Context", "Decision", "Consequences", "Alternatives"]
    assert f"| [{decision.name[:4]}]({decision.name}) | {title} | {status} |" in text_of("docs/adr/README.md")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if ":" not in link[0]]

    def leads(path: str, anchor: str) -> bool:
        target = page.parent / path if path else page
        if not target.exists():
            return False
        return not anchor or anchor in map(anchor_of, re.findall(r"^#+ .+$", target.read_text("utf-8"), re.MULTILINE))

    assert [link for link in links if not leads(*link)] == []


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / path).resolve()
        for page in PAGES
        for path, _ in _LINK.findall(page.read_text(encoding="utf-8"))
        if path and (page.parent / path).resolve() != page.resolve()
    }

    assert set(PAGES) - linked == set()


def test_architecture_names_every_package_and_only_what_exists() -> None:
    first_column = re.findall(r"^\| (`.+?`) \|", sections("docs/architecture.md")["Where things are"], re.MULTILINE)
    places = {place.rstrip("/") for cell in first_column for place in re.findall(r"`([^`]+)`", cell)}
    packages = {
        name_of(init.parent) for pattern in ("*/__init__.py", "services/*/__init__.py") for init in ROOT.glob(pattern)
    }

    assert {place for place in places if not (ROOT / place).exists()} == set()
    assert packages - places == set()


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.slow
def test_readme_shows_the_accuracy_that_its_command_prints() -> None:
    assert "\n".join(readme.rows()) in README.read_text(encoding="utf-8")


def test_portuguese_quickstart_has_the_same_commands() -> None:
    english, portuguese = (
        [shell for shell, _ in _COMMAND.findall(text_of(page))]
        for page in ("docs/quickstart.md", "docs/pt/quickstart.md")
    )

    assert portuguese == english


def test_answers_are_compared_by_shape_and_may_be_shown_in_part() -> None:
    shown = read_shown('{"id": "a", "list": [{"x": 1, "gone": 2}, …], "flag": true, "inner": {"x": 1, …}, …}')
    answered: JsonValue = {"id": "b", "list": [{"x": 3}], "flag": None, "inner": {"x": 3, "y": 4}, "more": 5}

    assert sorted(differences(shown, answered)) == ["answer.flag is None, not True", "answer.list[0] has no gone"]


def test_every_make_of_a_page_has_its_target() -> None:
    pattern = re.compile(r"(?:^|`)make (?:[A-Z_]+=\S+ )*([a-z-]+)", re.MULTILINE)
    shown = {target for page in PAGES for target in pattern.findall(page.read_text(encoding="utf-8"))}

    assert {"run", "test", "demo", "docs"} <= shown
    assert [target for target in sorted(shown) if not made(target)] == []


def test_make_test_runs_pytest_over_everything() -> None:
    _, *program = made("test")

    options = program[2:]
    assert program[:2] == ["-m", "pytest"]
    assert [word for word in options if (ROOT / word).exists()] == []
    assert {"-k", "-m", "--ignore", "--deselect"} & {word.partition("=")[0] for word in options} == set()


def test_make_demo_runs_the_demo_of_the_command_line() -> None:
    assert made("demo") == ["bin/stock-forecast", "demo"]  # which tests/cli/test_processes.py runs


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

    with subprocess.Popen(program, cwd=ROOT, env=environment, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + START_S
            while not listens(port):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            url = f"http://127.0.0.1:{port}"
            health = requests.get(f"{url}/health", timeout=30).json()
            page = requests.get(url, headers={"Accept": "text/html"}, timeout=30).text
            docs = requests.get(f"{url}/docs", timeout=30)
        finally:
            os.killpg(process.pid, signal.SIGTERM)

    assert health["status"] == "ok"
    assert "<html" in page
    assert docs.status_code == 200
    assert not listens(port)


@pytest.mark.slow
@pytest.mark.parametrize("page", [README, DOCS / "quickstart.md"], ids=name_of)
def test_commands_of_a_page_run_and_answer_what_is_shown(page: Path, server: str) -> None:
    session = [(shown, answered) for shown, answered in run_session(page, server) if answered is not None]

    assert session
    for shown, answered in session:
        assert isinstance(shown, dict)
        assert isinstance(answered, dict)
        assert OMITTED in shown or shown.keys() == answered.keys()
        assert list(differences(shown, answered)) == []


@pytest.mark.slow
def test_commands_of_the_api_page_run(server: str) -> None:
    session = run_session(DOCS / "api.md", server)

    assert len(session) == len(routes()) + 1  # the page submits a training in two ways


def test_reference_adds_parameters_fields_and_errors_to_every_route() -> None:
    page = with_reference(text_of("docs/api.md"), app.openapi())

    forecast = page[page.index("`POST /models/{model_id}/forecast`") : page.index("`POST /models/{model_id}/backtest`")]
    assert "| `horizon` | integer, 1 to 30 | " in forecast
    assert "| `forecast` | list of [Step](#step) | " in forecast
    assert "`horizon_too_long`" in forecast
    assert "\n### Step\n" in page
    assert page.count("**Errors** ([what to do]") == len(routes())


@pytest.mark.parametrize(
    ("page", "link", "in_the_site"),
    [
        ("README.md", "[c](docs/concepts.md)", "[c](concepts.md)"),
        ("docs/concepts.md", "[r](../README.md#try-it)", "[r](index.md#try-it)"),
        ("docs/adr/0001-no-pickle.md", "[c](../../CHANGELOG.md)", "[c](../CHANGELOG.md)"),
        ("docs/monitoring.md", "[the rules](../monitoring/rules.yml)", "the rules"),
        ("README.md", '<img src="docs/images/x.png">', '<img src="docs/images/x.png">'),
        ("README.md", '<img src="docs/images/page-360-dark.png">', '<img src="images/page-360-dark.png">'),
        ("README.md", "[web](https://semver.org/)", "[web](https://semver.org/)"),
    ],
)
def test_links_are_rewritten_for_the_site(page: str, link: str, in_the_site: str) -> None:
    assert with_local_links(ROOT / page, link) == in_the_site


@pytest.mark.slow
@pytest.mark.skipif(not MKDOCS.exists(), reason="run `make docs` once: it installs MkDocs")
def test_site_builds_without_warnings_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: {source}\nsite_dir: {site}\n")

    subprocess.run([sys.executable, "-m", "tools.docs_site", source], cwd=ROOT, timeout=60, check=True)
    subprocess.run([MKDOCS, "build", "--strict", "--quiet", "-f", config], timeout=120, check=True)

    pages = "".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    assert re.findall(r'<(?:script|img|link|iframe)\b[^>]*(?:src|href)="?(?:https?:)?//[^>]*>', pages) == []
    assert not any("//fonts." in sheet.read_text(encoding="utf-8") for sheet in site.rglob("*.css"))
