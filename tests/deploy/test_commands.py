"""Every command of the AWS CLI that the page and the script name exists, with these options and values."""

import re
import shlex
from pathlib import Path

import pytest

from tests.deploy.aws_commands import commands_of, mistakes, shell_of
from tests.deploy.template import ROOT

PLACES = ("docs/deploy.md", "deploy/deploy.sh")
COMMANDS = [(place, words) for place in PLACES for words in commands_of(ROOT / place)]


@pytest.mark.parametrize(
    ("place", "words"), COMMANDS, ids=lambda value: shlex.join(value[:2]) if isinstance(value, list) else value
)
def test_command_is_one_that_the_cli_has(place: str, words: list[str]) -> None:
    assert mistakes(words) == [], f"{place}: aws {shlex.join(words)}"


@pytest.mark.parametrize("place", PLACES)
def test_no_command_is_overlooked(place: str) -> None:
    lines = shell_of(ROOT / place).splitlines()

    named = [line for line in lines if re.search(r"\baws [a-z0-9]+ [a-z]", line) and "for tool in" not in line]
    assert len(commands_of(ROOT / place)) == len(named) > 5


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("lamda get-function --function-name f", "lamda: no such service"),
        ("lambda get-functions --function-name f", "lambda get-functions: no such command"),
        ("lambda get-function --name f", "--name: unknown"),
        ("lambda get-function", "--function-name: missing"),
        ("lambda create-function-url-config --function-name f --auth-type IAM", "--auth-type: IAM is none of"),
        ("lambda create-function --function-name f --role r --code Image=i", "--code: Image is no key"),
        ("lambda create-function --function-name f --role r --code i", "--code: i has no key"),
        ("lambda update-function-code --function-name f --publish true", "--publish: takes no value"),
        ("lambda update-function-configuration --function-name f --timeout", "--timeout: has no value"),
        ("lambda wait function-ready --function-name f", "lambda wait function-ready: no such waiter"),
        ("lambda wait function-updated-v2 --name f", "--name: unknown"),
        ("lambda invoke --function-name", "--function-name: has no value"),
        ("s3 mb s3://b --location eu", "--location: unknown"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_found(command: str, found: str) -> None:
    assert any(mistake.startswith(found) for mistake in mistakes(command.split()))


def test_commands_are_found_wherever_a_shell_would_run_them(tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text(
        "aws s3 mb s3://b\n"
        "# aws in a comment\n"
        'account=$(aws sts get-caller-identity --query "Account" --output text)\n'
        "aws ecr get-login-password \\\n  --region r | docker login\n"
        "aws lambda get-function --function-name f >/dev/null 2>&1 && echo aws is fine\n"
        "if ! aws s3 rb s3://b; then aws s3 mb s3://c; fi\n"
    )

    found = [shlex.join(words) for words in commands_of(script)]

    assert found == [
        "s3 mb s3://b",
        "sts get-caller-identity --query Account --output text",
        "ecr get-login-password --region r",
        "lambda get-function --function-name f",
        "s3 rb s3://b",
        "s3 mb s3://c",
    ]
