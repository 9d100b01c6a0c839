"""Finds the AWS CLI's commands in pages and scripts, and checks them against botocore's models.

The CLI generates its commands from these models; the others that are used here are listed.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import botocore.session
from botocore import xform_name
from botocore.model import ListShape, OperationModel, Shape, StringShape, StructureShape

GLOBAL_OPTIONS = {"region", "profile", "output", "query"}

# Commands of the CLI that are not operations of an API, with the options used here.
BUILT_IN: Mapping[tuple[str, str], set[str]] = {
    ("configure", "get"): set(),
    ("configure", "export-credentials"): {"format"},
    ("ecr", "get-login-password"): set(),
    ("logs", "tail"): {"follow", "since"},
    ("s3", "mb"): set(),
    ("s3", "sync"): set(),
}
MODEL_NAMES = {"s3api": "s3"}

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
    lexer = shlex.shlex(text.partition("\n")[0], posix=True, punctuation_chars=True)
    lexer.wordchars += "$:?[]=,@{}%+"
    words: list[str] = []
    for word in lexer:
        if set(word) <= _END:
            break
        words.append(word)
    return words[:-1] if words and words[-1] == "2" else words  # the 2 of 2>


def mistakes(words: list[str]) -> list[str]:
    """Each unknown command, option, key or value, and each missing option."""
    service, command, *rest = words
    if (service, command) in BUILT_IN:
        return [f"--{name}: unknown" for name in _options(rest) if name not in BUILT_IN[service, command]]
    service = MODEL_NAMES.get(service, service)
    model = _session().get_service_model(service)
    if command == "wait":
        waiters = _session().get_component("data_loader").load_service_model(service, "waiters-2")["waiters"]
        operations = {xform_name(name, "-"): waiter["operation"] for name, waiter in waiters.items()}
        command, *rest = rest
    else:
        operations = {xform_name(name, "-"): name for name in model.operation_names}
    if command not in operations:
        return [f"{command}: no such command"]
    return list(_mistaken_options(model.operation_model(operations[command]), _options(rest)))


def _mistaken_options(operation: OperationModel, options: Mapping[str, list[str]]) -> Iterator[str]:
    shape = operation.input_shape
    members = {} if shape is None else {xform_name(name, "-"): member for name, member in shape.members.items()}
    required = set() if shape is None else {xform_name(name, "-") for name in shape.required_members}
    for name, values in options.items():
        member = members.get(name) or members.get(name.removeprefix("no-"))
        if member is None:
            yield f"--{name}: unknown"
        else:
            yield from (f"--{name}: {wrong}" for value in values for wrong in _mistaken_value(member, value))
    yield from (f"--{name}: missing" for name in sorted(required - options.keys()))


def _mistaken_value(shape: Shape, value: str) -> Iterator[str]:
    if isinstance(shape, StringShape) and shape.enum and "$" not in value and value not in shape.enum:
        yield f"{value} is not one of {', '.join(shape.enum)}"
    structure = shape.member if isinstance(shape, ListShape) else shape
    if isinstance(structure, StructureShape) and not value.startswith(("{", "[", "file:", "$")):
        keys = re.findall(r"(?:^|,)(\w+)=", re.sub(r"\{.*?\}", "", value))
        yield from (f"{key} is not a key" for key in keys or [value] if key not in structure.members)


def _options(words: list[str]) -> dict[str, list[str]]:
    """The values of each option of the command itself."""
    options: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            values = options.setdefault(name, [value] if equals else [])
        else:
            values.append(word)
    return {name: values for name, values in options.items() if name not in GLOBAL_OPTIONS}


@cache
def _session() -> botocore.session.Session:
    return botocore.session.get_session()
