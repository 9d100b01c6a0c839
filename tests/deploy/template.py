"""Reads deploy/template.yaml and runs AWS's tools on it."""

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "deploy/template.yaml"
SAM = ROOT / ".venv/sam/bin/sam"
SAM_MISSING = f"{SAM.relative_to(ROOT)} not found: make sam"

Template = dict[str, Any]


def read_template() -> Template:
    """The template with its functions in their long form: ``{"Ref": …}`` instead of ``!Ref …``."""
    from cfnlint.decode import decode  # type: ignore[import-untyped]  # 0.3 s, in each process that collects tests

    template: Template = json.loads(json.dumps(decode(str(TEMPLATE))[0]))  # plain dicts and lists
    return template


def resources(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """Every resource of a type, by its name."""
    return {name: found for name, found in template["Resources"].items() if found["Type"] == kind}


def run_offline(command: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has no AWS credentials and does not look for any."""
    known = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SAM_CLI_TELEMETRY": "0",
    }
    return subprocess.run(
        command, env=known | environment, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
