"""Finds the AWS CLI's commands in pages and scripts, and says what is wrong with each by botocore's own models.

The CLI makes its commands from these models; the few it has besides are listed here.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import botocore.session
from botocore import xform_name
from botocore.exceptions import UnknownServiceError
from botocore.model import ListShape, OperationModel, Shape, StringShape, StructureShape

EVERYWHERE = {"region", "profile", "output", "query", "no-cli-pager", "cli-binary-format"}

# Commands of the CLI that are no operation of an API, with the options used here.
OF_THE_CLI: Mapping[tuple[str, str], set[str]] = {
    ("configure", "get"): set(),
    ("configure", "export-credentials"): {"format"},
    ("ecr", "get-login-password"): set(),
    ("logs", "tail"): {"follow", "since", "filter-pattern", "format"},
    ("s3", "cp"): {"recursive"},
    ("s3", "mb"): set(),
    ("s3", "rb"): {"force"},
    ("s3", "sync"): set(),
}
POSITIONAL = {("lambda", "invoke"): 1}  # the file that the answer goes to

NAMED_OTHERWISE = {"s3api": "s3"}

_FENCE = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[|;&({!]|\b(?:if|then|else|do|until|while)\b)[ \t]*aws[ \t]+(?=[a-z0-9])", re.MULTILINE)
_END = set("|;&()<>")


def commands_of(path: Path) -> list[list[str]]:
    """The words of each ``aws`` command of a page or a shell script, without ``aws`` itself."""
    text = shell_of(path)
    return [_words(text[found.end() :]) for found in _COMMAND.finditer(text)]


def shell_of(path: Path) -> str:
    """The commands of a page or a script, each on one line, without comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(_FENCE.findall(text))
    return re.sub(r"^\s*#.*$", "", text.replace("\\\n", " "), flags=re.MULTILINE)


def _words(text: str) -> list[str]:
    """Words up to the end of the command."""
    lexer = shlex.shlex(text.partition("\n")[0], posix=True, punctuation_chars=True)
    lexer.wordchars += "$:?[]=,@{}%+"
    words: list[str] = []
    for word in lexer:
        if set(word) <= _END:
            break
        words.append(word)
    return words[:-1] if words and words[-1] == "2" else words  # what stood before > was a descriptor


def mistakes(words: list[str]) -> list[str]:
    """What the CLI would refuse: an unknown service, command, option, key or value, or a missing option."""
    service, command, *rest = words
    if (service, command) in OF_THE_CLI:
        return [
            f"--{name}: unknown" for name in _options(rest) if name not in OF_THE_CLI[service, command] | EVERYWHERE
        ]
    try:
        model = _session().get_service_model(NAMED_OTHERWISE.get(service, service))
    except UnknownServiceError:
        return [f"{service}: no such service"]
    if command == "wait":
        return _waiting(service, rest)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if command not in operations:
        return [f"{service} {command}: no such command"]
    return list(
        _of_the_options(model.operation_model(operations[command]), rest, POSITIONAL.get((service, command), 0))
    )


def _waiting(service: str, rest: list[str]) -> list[str]:
    service = NAMED_OTHERWISE.get(service, service)
    waiters = _session().get_component("data_loader").load_service_model(service, "waiters-2")["waiters"]
    found = next((waiter for name, waiter in waiters.items() if xform_name(name, "-") == rest[0]), None)
    if found is None:
        return [f"{service} wait {rest[0]}: no such waiter"]
    operation = _session().get_service_model(service).operation_model(found["operation"])
    return list(_of_the_options(operation, rest[1:], 0))


def _of_the_options(operation: OperationModel, rest: list[str], positional: int) -> Iterator[str]:
    shape = operation.input_shape
    members = {} if shape is None else {xform_name(name, "-"): member for name, member in shape.members.items()}
    given = {name: values for name, values in _options(rest).items() if name not in EVERYWHERE}
    for name, values in given.items():
        member = members.get(name) or members.get(name.removeprefix("no-"))
        if member is None:
            yield f"--{name}: unknown"
        else:
            yield from (f"--{name}: {wrong}" for wrong in _of_the_values(member, values))
    required = set() if shape is None else {xform_name(name, "-") for name in shape.required_members}
    yield from (f"--{name}: missing" for name in sorted(required - given.keys()))
    if positional > sum(not word.startswith("--") for word in rest):
        yield "argument: missing"


def _of_the_values(shape: Shape, values: list[str]) -> Iterator[str]:
    if shape.type_name == "boolean":
        yield from ("takes no value" for _ in values[:1])
    elif not values:
        yield "has no value"
    for value in values:
        if isinstance(shape, StringShape) and shape.enum and "$" not in value and value not in shape.enum:
            yield f"{value} is none of {', '.join(shape.enum)}"
        structure = shape.member if isinstance(shape, ListShape) else shape
        if isinstance(structure, StructureShape) and not value.startswith(("{", "[", "file:", "$")):
            keys = re.findall(r"(?:^|,)(\w+)=", re.sub(r"\{.*?\}", "", value))
            yield from (f"{key} is no key" for key in keys if key not in structure.members)
            if not keys:
                yield f"{value} has no key"


def _options(words: list[str]) -> dict[str, list[str]]:
    """The values of each option; words before the first option belong to none."""
    options: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            values = options.setdefault(name, [value] if equals else [])
        else:
            values.append(word)
    return options


@cache
def _session() -> botocore.session.Session:
    return botocore.session.get_session()
