"""The services of compose that watch over the API: where they listen, and that no password is in the file."""

import re
import subprocess
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.monitoring.programs import MONITORING, ROOT


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))[
        "services"
    ]
    return found


@pytest.mark.parametrize(("name", "port"), [("api", 8000), ("prometheus", 9090), ("grafana", 3000)])
def test_a_service_listens_on_this_machine_only_and_is_watched_over(name: str, port: int) -> None:
    service = services()[name]

    (published,) = service["ports"]
    assert re.fullmatch(rf"127\.0\.0\.1:\$\{{\w+:-{port}\}}:{port}", published)
    assert service["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_an_image_has_a_version_and_can_be_another(name: str) -> None:
    image = services()[name]["image"]

    assert re.fullmatch(rf"\$\{{{name.upper()}_IMAGE:-[\w/]+:v?\d+\.\d+\.\d+\}}", image)


def test_every_file_that_is_mounted_exists() -> None:
    mounted = [volume.split(":")[0] for service in services().values() for volume in service["volumes"]]

    paths = [path for path in mounted if path.startswith("./")]
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_grafana_does_not_start_without_a_password() -> None:
    *shell, script = services()["grafana"]["entrypoint"]

    done = subprocess.run(
        [*shell, script.replace("$$", "$")],
        env={"GF_SECURITY_ADMIN_PASSWORD": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )

    assert services()["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    assert done.returncode == 1
    assert "GRAFANA_PASSWORD" in done.stderr


def test_prometheus_scrapes_the_api_under_its_name_in_compose() -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))

    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["api:8000"]}]
    assert "api" in services()
