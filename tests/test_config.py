"""What is set for libraries that read the environment themselves."""

import os
from pathlib import Path

import pytest

from config import Settings, meter, prepare_environment
from telemetry.embedded import EmbeddedMeter
from telemetry.measures import ScrapedMeter

SHARED = "PROMETHEUS_MULTIPROC_DIR"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env lies
    for name in ("ORT_DISABLE_TELEMETRY", "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME", SHARED):
        monkeypatch.setenv(name, "")


def test_an_empty_folder_name_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_environment()

    assert SHARED not in os.environ
    assert Settings(_env_file=None).prometheus_multiproc_dir is None


@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_folder_in_which_processes_count_together_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_a_file: bool
) -> None:
    folder = tmp_path / "some" / "counts"
    monkeypatch.delenv(SHARED)
    if in_a_file:
        (tmp_path / ".env").write_text(f"{SHARED}={folder}\n")
    else:
        monkeypatch.setenv(SHARED, str(folder))

    prepare_environment()

    assert os.environ[SHARED] == str(folder)
    assert folder.is_dir()
    monkeypatch.delenv(SHARED)  # the file's entry was not there to be restored


def test_a_server_can_be_scraped_and_lambda_writes_to_its_log(tmp_path: Path) -> None:
    here = Settings(_env_file=None, data_dir=tmp_path)
    there = Settings(_env_file=None, data_dir=tmp_path, aws_lambda_function_name="serve")

    assert isinstance(meter(here), ScrapedMeter)
    assert isinstance(meter(there), EmbeddedMeter)
    assert not isinstance(meter(there), ScrapedMeter)
