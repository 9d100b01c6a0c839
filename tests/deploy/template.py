"""Reads deploy/template.yaml as CloudFormation does: short tags are functions, Globals belong to every function."""

import copy
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "deploy/template.yaml"
SAM = ROOT / ".venv/sam/bin/sam"
SAM_MISSING = f"{SAM.relative_to(ROOT)} is not there: make sam"

FUNCTION = "AWS::Serverless::Function"

Template = dict[str, Any]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """A YAML loader of its own, so that the tags are known nowhere else."""


def _function(loader: Any, tag: str, node: Any) -> dict[str, Any]:
    """``!Ref x`` as ``{"Ref": x}``, any other ``!F x`` as ``{"Fn::F": x}``."""
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _function)


def read_template(path: Path = TEMPLATE) -> Template:
    """The template with its functions in their long form."""
    template: Template = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a safe loader with tags
    return template


def resources(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    """Every resource of a type, by its name."""
    return {name: found for name, found in template["Resources"].items() if found["Type"] == kind}


def functions(template: Template) -> dict[str, dict[str, Any]]:
    """The properties of each function, with what Globals add to them."""
    shared = template.get("Globals", {}).get("Function", {})
    return {name: _merged(shared, found["Properties"]) for name, found in resources(template, FUNCTION).items()}


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(shared))
    for key, value in own.items():
        both_maps = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both_maps else value
    return merged


def possible_numbers(template: Template, value: Any) -> Iterator[float]:
    """A number as it stands, or the extremes and the default of the parameter it refers to."""
    if isinstance(value, dict):
        parameter = template["Parameters"][value["Ref"]]
        yield from (float(parameter[key]) for key in ("MinValue", "MaxValue", "Default"))
    else:
        yield float(value)


def run_offline(command: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program that finds no credentials and is told not to look for any."""
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
