import json

import yaml  # type: ignore[import-untyped]

from tests.monitoring.programs import MONITORING
from tools.dashboard import FILE, dashboard_json


def test_the_file_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard_json(), "run: make dashboard"


def test_every_target_has_a_letter_and_the_provisioned_data_source() -> None:
    sources = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )
    uids = {entry["uid"] for entry in sources["datasources"]}

    for panel in (panel for panel in json.loads(dashboard_json())["panels"] if panel["type"] != "row"):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters, panel["title"]
        assert letters == list("ABCDEFGH")[: len(letters)], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids
