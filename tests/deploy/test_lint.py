"""What AWS's own tools say of the template, offline and without credentials."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.template import SAM, SAM_MISSING, TEMPLATE, run_offline

CFN_LINT = str(Path(sys.executable).with_name("cfn-lint"))

SERVER_SIDE_TRANSFORM = """
import json, sys
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
template = yaml_parse(open(sys.argv[1]).read())
print(json.dumps(Translator({}, Parser()).translate(template, json.loads(sys.argv[2]))))
"""


@pytest.fixture(scope="session")
def sam() -> Path:
    """Skips where the SAM CLI, which has an environment of its own, is not installed."""
    if not SAM.exists():
        pytest.skip(SAM_MISSING)
    return SAM


def expanded(sam: Path, home: Path, **parameters: str) -> dict[str, Any]:
    """The template as CloudFormation gets it from the SAM transform."""
    python = str(sam.with_name("python"))
    done = run_offline([python, "-c", SERVER_SIDE_TRANSFORM, str(TEMPLATE), json.dumps(parameters)], home)
    assert done.returncode == 0, done.stderr
    template: dict[str, Any] = json.loads(done.stdout)
    return template


def with_an_unknown_property(folder: Path) -> Path:
    broken = folder / "template.yaml"
    text = TEMPLATE.read_text(encoding="utf-8")
    broken.write_text(text.replace("ReservedConcurrentExecutions:", "ReservedConcurency:"), encoding="utf-8")
    return broken


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    done = run_offline([CFN_LINT, str(TEMPLATE)], tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_cfn_lint_would_find_an_unknown_property(tmp_path: Path) -> None:
    done = run_offline([CFN_LINT, str(with_an_unknown_property(tmp_path))], tmp_path)

    assert done.returncode != 0
    assert "ReservedConcurency" in done.stdout


def test_sam_validates_the_template(sam: Path, tmp_path: Path) -> None:
    done = run_offline([str(sam), "validate", "--lint", "--template", str(TEMPLATE)], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "is a valid SAM Template" in done.stdout


def test_sam_would_refuse_an_unknown_property(sam: Path, tmp_path: Path) -> None:
    done = run_offline(
        [str(sam), "validate", "--lint", "--template", str(with_an_unknown_property(tmp_path))], tmp_path
    )

    assert done.returncode != 0


@pytest.mark.parametrize("auth_type", ["AWS_IAM", "NONE"])
def test_transformed_template_opens_the_url_on_one_condition_only(sam: Path, tmp_path: Path, auth_type: str) -> None:
    template = expanded(sam, tmp_path, UrlAuthType=auth_type)

    granted = [found for found in template["Resources"].values() if found["Type"] == "AWS::Lambda::Permission"]
    [scheduled] = [found["Properties"] for found in granted if "Condition" not in found]
    assert (scheduled["Principal"], "SourceArn" in scheduled) == ("events.amazonaws.com", True)
    permissions = [found for found in granted if "Condition" in found]
    assert {found["Condition"] for found in permissions} == {"IsPublic"}
    assert sorted(found["Properties"]["Action"] for found in permissions) == [
        "lambda:InvokeFunction",
        "lambda:InvokeFunctionUrl",
    ]


def test_transformed_template_keeps_the_rule_and_makes_no_role_of_its_own(sam: Path, tmp_path: Path) -> None:
    template = expanded(sam, tmp_path)

    kinds = [(found["Type"], found.get("Condition")) for found in template["Resources"].values()]
    assert "PublicUrlNeedsApiKey" in template["Rules"]
    assert [condition for kind, condition in kinds if kind == "AWS::IAM::Role"] == ["MakesRoles", "MakesRoles"]
    assert [kind for kind, _ in kinds].count("AWS::Lambda::Function") == 2
    assert [kind for kind, _ in kinds].count("AWS::Lambda::EventInvokeConfig") == 1


def test_transformed_template_names_an_existing_role(sam: Path, tmp_path: Path) -> None:
    role = "arn:aws:iam::123456789012:role/LabRole"

    template = expanded(sam, tmp_path, ExistingRoleArn=role)

    used = {
        found["Properties"]["Role"]["Fn::If"][2]
        for found in template["Resources"].values()
        if found["Type"] == "AWS::Lambda::Function"
    }
    assert used == {role}
