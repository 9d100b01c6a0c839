"""Messages in Portuguese: the catalogue is complete, has nothing needless, and finds each message by its words."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import errors
from error_handlers import HTTP_CODES
from errors import AppError
from services.language import preferred
from services.language.messages import catalogue, translated

ROOT = Path(__file__).parents[3]
FOLDERS = ("models", "routers", "schemas", "server", "services")
# what only people read who run a server or train a universe on its disk: it stays in English, as its log does
ENGLISH_ONLY = {"ArtifactCorrupt", "ArtifactTooNew"}
ENGLISH_ONLY_FILES = {"services/training/download.py"}
CLASSES = {name: one for name, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, AppError)}
TITLES = {
    "Malformed request",
    "Http error",
    *(one.title for one in CLASSES.values()),
    *(code.replace("_", " ").capitalize() for code in HTTP_CODES.values()),
}
FRAMEWORK = re.compile(
    r"Input should|String should|Tuple should|Field required|Extra inputs|There was|Not Found|Method|'{}' or"
)


def template(node: ast.AST) -> str | None:
    """A text with ``{}`` for each part that changes; None for another expression."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def sources() -> Iterator[tuple[str, ast.Module]]:
    paths = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    for path in paths:
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def messages_of_errors() -> Iterator[str]:
    for path, tree in sources():
        if path in ENGLISH_ONLY_FILES or path == "worker.py":
            continue
        for node in ast.walk(tree):
            name = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and (name == "HTTPException" or name in CLASSES.keys() - ENGLISH_ONLY):
                arguments = node.args[1:] if name == "HTTPException" else node.args  # the first is its status
                if arguments and (text := template(arguments[0])):
                    yield text


def warnings_about_prices() -> Iterator[str]:
    tree = ast.parse((ROOT / "services/prices/quality.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and node.value is not None:
            yield template(node.value) or ""


def malformed_requests() -> Iterator[str]:
    for path, tree in sources():
        if path.startswith("schemas/") and path != "schemas/realised.py":
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ValueError":
                    yield template(node.args[0]) or ""


def test_every_message_is_in_the_catalogue() -> None:
    known = catalogue("pt-BR")

    wanted = {*TITLES, *messages_of_errors(), *warnings_about_prices(), *malformed_requests()}

    assert len(wanted) > 150
    assert sorted(wanted - known.keys()) == []


def test_nothing_in_the_catalogue_is_needless() -> None:
    said = "\n".join(text for _, tree in sources() for node in ast.walk(tree) if (text := template(node)))
    said += "\n" + "\n".join(title for title in TITLES)

    def is_said(key: str) -> bool:
        return re.search(".+".join(map(re.escape, key.split("{}"))), said) is not None

    needless = [key for key in catalogue("pt-BR") if not FRAMEWORK.match(key) and not is_said(key)]

    assert needless == []


@pytest.mark.parametrize("key", ["{}: {}"])
def test_a_translation_has_the_parts_of_its_message(key: str) -> None:
    assert key in catalogue("pt-BR")
    for english, portuguese in catalogue("pt-BR").items():
        parts = [int(part) for part in re.findall(r"\{(\d+)\}", portuguese)]
        assert sorted(set(parts)) == list(range(max(parts, default=-1) + 1)), portuguese
        assert len(set(parts)) <= english.count("{}"), english


@pytest.mark.parametrize(
    ("english", "portuguese"),
    [
        ("need 61 sessions of PETR4.SA, found 40", "são necessários 61 pregões de PETR4.SA; há 40"),
        ("Yahoo does not know PETR4; did you mean PETR4.SA?", "o Yahoo não conhece PETR4; você quis dizer PETR4.SA?"),
        ("PETR4.SA: prices end on 2018-12-31; newer ones are not available",
         "PETR4.SA: os preços terminam em 2018-12-31; não há mais recentes disponíveis"),
        ("The returns could be normal (Jarque–Bera, p = 0.4). Log returns could not be tested.",
         "Os retornos podem ser normais (Jarque–Bera, p = 0,4). Os retornos logarítmicos não puderam ser testados."),
        ("p = 0.031", "p = 0,031"),
        ("more than 1,000.5 requests in a minute; try again in 3 s",
         "mais de 1.000,5 pedidos em um minuto; tente de novo em 3 s"),
        ("something that is in no catalogue", "something that is in no catalogue"),
        ("", ""),
        ("x" * 5000, "x" * 5000),
    ],
)  # fmt: skip
def test_a_message_is_found_by_its_words(english: str, portuguese: str) -> None:
    assert translated(english, "pt-BR") == portuguese
    assert translated(english, "en") == english


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("pt-BR,pt;q=0.9,en;q=0.8", "pt-BR"),
        ("pt", "pt-BR"),
        ("en;q=0.2, PT-pt;q=0.7", "pt-BR"),
        ("de, en;q=0.1", "en"),
        ("*", "en"),
        ("", "en"),
        ("pt;q=x", "en"),
        ("pt;q=nan", "en"),
        (",,;;=,\0", "en"),
        ("pt;q=0", "en"),
        ("x" * 100_000, "en"),
    ],
    ids=lambda value: str(value)[:20].replace("\0", "NUL"),
)
def test_the_preferred_language_is_one_of_ours(header: str, language: str) -> None:
    assert preferred(header) == language
