"""The alerts: valid, each tested to fire and to keep quiet, each explained."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.monitoring.programs import MONITORING, ROOT, promtool


def rules(kind: str) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text(encoding="utf-8"))["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", "rules.yml"), ("test", "rules", "rules_test.yml")],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(arguments: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MONITORING)

    done = promtool(*arguments)

    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_a_rule_that_is_wrong_fails_its_test(tmp_path: Path) -> None:
    wrong = (
        (MONITORING / "rules.yml").read_text(encoding="utf-8").replace("min(model_loaded) < 1", "min(model_loaded) < 0")
    )
    (tmp_path / "rules.yml").write_text(wrong, encoding="utf-8")
    (tmp_path / "rules_test.yml").write_bytes((MONITORING / "rules_test.yml").read_bytes())

    done = promtool("test", "rules", str(tmp_path / "rules_test.yml"))

    assert done.returncode != 0
    assert b"ModelNotLoaded" in done.stdout + done.stderr


def test_every_alert_is_tested_to_fire_and_to_keep_quiet() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text(encoding="utf-8"))["tests"]
    cases = [(case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]]

    assert sorted(cases) == sorted((name, fires) for name in rules("alert") for fires in (True, False))


def test_every_alert_is_explained_and_none_that_does_not_exist() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")

    section = page.split("\n## Alerts\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(rules("alert"))
