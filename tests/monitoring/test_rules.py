"""The alerts: each tested to fire and to stay silent, each documented."""

import re
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.monitoring.programs import MONITORING, ROOT, promtool


def rules(kind: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


@pytest.mark.parametrize("command", ["check config prometheus.yml", "test rules rules_test.yml"])
def test_promtool_finds_nothing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MONITORING)

    done = promtool(*command.split())

    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_every_alert_is_tested_to_fire_and_to_stay_silent() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]

    assert sorted(cases) == sorted((name, fires) for name in rules("alert") for fires in (True, False))


def test_every_alert_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")

    section = page.split("\n## Alerts\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(rules("alert"))
