"""docs/deploy.md and the template have the same parameters, defaults, outputs, alarms and settings."""

import re

from config import Settings
from tests.deploy.template import ROOT, read_template, resources

PAGE = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
SET_BY_THE_SCRIPT = {"ServeImageUri", "TrainImageUri"}


def test_every_parameter_is_documented_with_its_default_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `([A-Z]\w+)` \| (?:`(.*?)`)? ?\|", PAGE, re.MULTILINE))

    parameters = read_template()["Parameters"]
    assert rows == {name: str(found["Default"]) for name, found in parameters.items() if name not in SET_BY_THE_SCRIPT}


def test_every_alarm_is_documented_and_no_other() -> None:
    described = re.findall(r"^\| `(\w+Alarm)` \|", PAGE, re.MULTILINE)

    assert described == list(resources(read_template(), "AWS::CloudWatch::Alarm"))


def test_outputs_in_commands_exist() -> None:
    named = {*re.findall(r"OutputKey=='(\w+)'", PAGE), "ServeLogGroup", "Request"}

    assert named <= set(read_template()["Outputs"])
    assert "FunctionUrl" in named


def test_parameters_in_commands_exist() -> None:
    given = [pair for found in re.findall(r'PARAMETERS="([^"]*)"', PAGE) for pair in found.split()]

    assert {pair.partition("=")[0] for pair in given} <= set(read_template()["Parameters"])
    assert len(given) > 5


def test_settings_of_the_single_function_exist() -> None:
    [variables] = re.findall(r'--environment "Variables=\{(.*?)\}"', PAGE)

    assert {pair.partition("=")[0].lower() for pair in variables.split(",")} <= set(Settings.model_fields)
