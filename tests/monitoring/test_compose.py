"""docker-compose.yml: where services listen, what they get, and who may change Grafana."""

import re
import subprocess
from collections.abc import Hashable
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from cli.nightly import nightly, sign_of_life
from config import Settings
from tests.monitoring.programs import MONITORING, ROOT


class UniqueKeys(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a key that is there twice, as Docker Compose does; PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key is there twice: {keys}"
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES = yaml.load(TEXT, UniqueKeys)["services"]  # noqa: S506 - it is a SafeLoader
GRAFANA = SERVICES["grafana"]
FILE_SETTINGS = {"MODEL_PATH", "METADATA_PATH", "PRICE_DIR"}  # a container does not see the machine's files


def admin_password(given: str) -> str:
    """The password with which the entry point starts Grafana."""
    *shell, script = GRAFANA["entrypoint"]
    script = script.replace("$$", "$").replace("exec /run.sh", 'printf %s "$(printenv GF_SECURITY_ADMIN_PASSWORD)"')
    environment = {"PATH": "/usr/bin:/bin", "GF_SECURITY_ADMIN_PASSWORD": given}
    return subprocess.run([*shell, script], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.parametrize(("name", "port"), [("api", 8000), ("prometheus", 9090), ("grafana", 3000)])
def test_a_service_listens_on_this_machine_only_and_has_a_health_check(name: str, port: int) -> None:
    (published,) = SERVICES[name]["ports"]

    assert re.fullmatch(rf"127\.0\.0\.1:\$\{{\w+:-{port}\}}:{port}", published)
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_an_image_has_a_version_and_can_be_replaced(name: str) -> None:
    assert re.fullmatch(rf"\$\{{{name.upper()}_IMAGE:-[\w/]+:v?\d+\.\d+\.\d+\}}", SERVICES[name]["image"])


def test_grafana_starts_by_default_and_nothing_depends_on_it() -> None:
    assert "profiles" not in GRAFANA
    assert "grafana" not in [needed for service in SERVICES.values() for needed in service.get("depends_on", [])]


def test_grafana_shows_visitors_its_dashboards_read_only() -> None:
    environment = GRAFANA["environment"]

    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_ADMIN_PASSWORD:-}"


def test_grafanas_administrator_has_the_given_password_or_a_random_one() -> None:
    random = {admin_password("") for _ in range(3)}

    assert admin_password("given word") == "given word"
    assert len(random) == 3
    assert min(map(len, random)) >= 32


def test_every_mounted_file_exists() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]]

    assert [path for path in mounted if path.startswith("./") and not (ROOT / path).exists()] == []


def test_no_variable_is_required() -> None:
    variables = re.findall(r"(?<!\$)\$\{(\w+)(:?-)?", TEXT)

    assert variables
    assert [name for name, default in variables if not default] == []
    assert [name for name, service in SERVICES.items() if "env_file" in service] == []


def test_the_api_gets_every_setting_that_names_no_file_and_keeps_its_data_in_a_volume() -> None:
    passed = SERVICES["api"]["environment"]

    settings = {name.upper() for name in Settings.model_fields} - FILE_SETTINGS - {"AWS_LAMBDA_FUNCTION_NAME", "OPEN"}
    assert settings - passed.keys() == set()
    assert f"data:{passed['DATA_DIR']}" in SERVICES["api"]["volumes"]


def test_prometheus_scrapes_the_api_under_its_name() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]

    assert job["static_configs"] == [{"targets": ["api:8000"]}]
    assert "api" in SERVICES


def test_grafana_reads_the_dashboards_from_the_mounted_folder() -> None:
    provider = yaml.safe_load((MONITORING / "grafana/provisioning/dashboards/files.yml").read_text(encoding="utf-8"))

    folder = provider["providers"][0]["options"]["path"]
    assert f"./monitoring/grafana/dashboards:{folder}:ro" in GRAFANA["volumes"]
    assert GRAFANA["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/stock-forecast.json"


def test_the_scheduler_works_every_night_on_the_server_with_its_image_and_key() -> None:
    scheduler = SERVICES["scheduler"]
    command = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", part) for part in scheduler["command"]]

    assert command[:5] == ["python3", "-m", "cli", "--url", "http://api:8000"]
    assert scheduler["image"] == SERVICES["api"]["image"]
    assert scheduler["environment"]["STOCK_FORECAST_API_KEY"] == SERVICES["api"]["environment"]["API_KEY"]
    assert {"./cli:/app/cli:ro", "./client:/app/client:ro"} <= set(scheduler["volumes"])
    assert scheduler["restart"] == "unless-stopped"
    options = {
        name.lstrip("-").replace("-", "_"): value for name, value in zip(command[6::2], command[7::2], strict=True)
    }
    parameters = signature(nightly).parameters
    assert set(options) <= set(parameters)
    assert re.fullmatch(r"\d\d:\d\d", options["every_day_at"])
    assert int(options["max_retrainings"]) > 0


@pytest.mark.parametrize(("lasts", "is_healthy"), [(timedelta(minutes=1), True), (timedelta(minutes=-1), False)])
def test_the_scheduler_is_healthy_while_its_sign_of_life_lasts(
    tmp_path: Path, lasts: timedelta, is_healthy: bool
) -> None:
    scheduler = SERVICES["scheduler"]
    inside = scheduler["command"][-1]
    _, *check = [part.replace(inside, str(tmp_path / "alive")) for part in scheduler["healthcheck"]["test"]]
    sign_of_life(tmp_path / "alive", lasts)

    done = subprocess.run(check, check=False)

    assert (done.returncode == 0) == is_healthy
