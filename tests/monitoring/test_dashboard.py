"""The dashboard as a file: what the generator gives, complete and on its grid."""

import json
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.monitoring.programs import MONITORING
from tools.dashboard import FILE, TITLE, WIDTH, dashboard_json, queries


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["panels"]
    return found


def test_the_file_is_what_the_generator_gives() -> None:
    assert FILE.read_text(encoding="utf-8") == dashboard_json(), "run: make dashboard"


def test_it_has_the_title_of_the_second_ancestor() -> None:
    assert TITLE == "PETR4 LSTM API — Monitoramento"
    assert json.loads(FILE.read_text(encoding="utf-8"))["title"] == TITLE


def test_every_target_has_a_letter_of_its_own_and_the_provisioned_source() -> None:
    source = yaml.safe_load(
        (MONITORING / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )
    uids = {entry["uid"] for entry in source["datasources"]}

    for panel in (panel for panel in panels() if panel["type"] != "row"):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGH")[: len(letters)], panel["title"]
        assert letters, panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= uids


def test_every_query_is_on_the_dashboard() -> None:
    shown = [target["expr"] for panel in panels() for target in panel.get("targets", [])]

    assert shown == queries()


def test_no_panel_lies_over_another_or_off_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < WIDTH
        assert cells.isdisjoint(taken), panel["title"]
        taken |= cells


def test_the_folder_that_is_provisioned_is_the_one_that_compose_mounts() -> None:
    provider = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/files.yml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((MONITORING.parent / "docker-compose.yml").read_text(encoding="utf-8"))

    folder = provider["providers"][0]["options"]["path"]
    assert f"./monitoring/grafana/dashboards:{folder}:ro" in compose["services"]["grafana"]["volumes"]
