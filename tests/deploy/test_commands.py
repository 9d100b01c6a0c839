"""Every command of the AWS CLI in the page and the script exists, with these options and values."""

import re
import shlex

import pytest

from tests.deploy.aws_commands import commands_of, mistakes, shell_of
from tests.deploy.template import ROOT

PLACES = ("docs/deploy.md", "deploy/deploy.sh")
COMMANDS = [(place, words) for place in PLACES for words in commands_of(ROOT / place)]


@pytest.mark.parametrize(
    ("place", "words"), COMMANDS, ids=lambda value: shlex.join(value[:2]) if isinstance(value, list) else value
)
def test_the_cli_has_the_command(place: str, words: list[str]) -> None:
    assert mistakes(words) == [], f"{place}: aws {shlex.join(words)}"


@pytest.mark.parametrize("place", PLACES)
def test_no_command_is_overlooked(place: str) -> None:
    lines = shell_of(ROOT / place).splitlines()

    named = [line for line in lines if re.search(r"\baws [a-z0-9]+ [a-z]", line) and "for tool in" not in line]
    assert len(commands_of(ROOT / place)) == len(named) > 5


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("lambda get-functions --function-name f", "get-functions: no such command"),
        ("lambda get-function --name f", "--name: unknown"),
        ("lambda get-function", "--function-name: missing"),
        ("lambda create-function-url-config --function-name f --auth-type IAM", "--auth-type: IAM is not one of"),
        ("lambda create-function --function-name f --role r --code Image=i", "--code: Image is not a key"),
        ("lambda wait function-ready --function-name f", "function-ready: no such command"),
        ("lambda wait function-updated-v2 --name f", "--name: unknown"),
        ("s3 mb s3://b --location eu", "--location: unknown"),
    ],
)
def test_a_wrong_command_is_found(command: str, found: str) -> None:
    assert any(mistake.startswith(found) for mistake in mistakes(command.split()))
