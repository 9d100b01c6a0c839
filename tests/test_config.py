"""What is set for libraries that read the environment themselves, and what the settings choose."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import ValidationError

from bootstrap import forecast_prices, meter_of, price_source, quotas_of
from config import ROOT, Settings, n_cores, prepare_environment, sharing_metrics
from errors import PricesUnreachable
from services.prices.cache import CachedSource
from services.prices.fallback import FallbackSource
from telemetry.embedded import EmbeddedMeter
from telemetry.measures import ScrapedMeter
from tests.fakes import FakePriceSource

SHARED = "PROMETHEUS_MULTIPROC_DIR"
THREADS = "OMP_NUM_THREADS"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env lies
    for name in ("ORT_DISABLE_TELEMETRY", THREADS, "POWERTOOLS_METRICS_NAMESPACE", "POWERTOOLS_SERVICE_NAME", SHARED):
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


@pytest.mark.parametrize(("given", "used"), [(None, "1"), ("3", "3")])
def test_numeric_libraries_use_one_thread_unless_the_environment_says_more(
    monkeypatch: pytest.MonkeyPatch, given: str | None, used: str
) -> None:
    monkeypatch.delenv(THREADS)
    if given is not None:
        monkeypatch.setenv(THREADS, given)

    prepare_environment()

    assert os.environ[THREADS] == used


def test_a_server_can_be_scraped_and_lambda_writes_to_its_log(tmp_path: Path) -> None:
    here = Settings(_env_file=None, data_dir=tmp_path)
    there = Settings(_env_file=None, data_dir=tmp_path, aws_lambda_function_name="serve")

    assert isinstance(meter_of(here), ScrapedMeter)
    assert isinstance(meter_of(there), EmbeddedMeter)
    assert not isinstance(meter_of(there), ScrapedMeter)


def test_prices_come_from_yahoo_by_default() -> None:
    assert Settings(_env_file=None).price_source == "yahoo"


@pytest.mark.parametrize(
    ("source", "function"),
    [("yahoo", None), ("sample", None), ("csv", None), ("yahoo", "serve"), ("yahoo,sample", "serve")],
)
def test_no_sample_stands_in_unless_a_server_asks_for_it_and_never_on_lambda(
    tmp_path: Path, source: str, function: str | None
) -> None:
    chosen = {"data_dir": tmp_path, "price_source": source, "aws_lambda_function_name": function}
    prices = FakePriceSource()

    assert forecast_prices(Settings.model_validate(chosen), prices) is prices


@pytest.mark.parametrize("name", ["yahoo,sample", "yahoo, sample", " Yahoo,SAMPLE "])
def test_the_sample_stands_in_for_forecasts_and_for_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("PRICE_SOURCE", name)
    settings = Settings(_env_file=None, data_dir=tmp_path)
    prices = FakePriceSource()

    assert settings.price_source == "yahoo,sample"
    assert isinstance(forecast_prices(settings, prices), FallbackSource)
    assert not isinstance(price_source(settings), FallbackSource)


def test_a_worker_gets_no_sample_prices_from_a_server_whose_forecasts_may_fall_back_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Settings(_env_file=None, data_dir=tmp_path, price_source="yahoo,sample", yahoo_attempts=1)
    worker = Settings.model_validate_json(served.model_dump_json(exclude={"api_key"}))
    monkeypatch.setattr("services.prices.yahoo.YahooSource.fetch", _refused)

    with pytest.raises(PricesUnreachable):
        price_source(worker).history("^GSPC", NOW)


@pytest.mark.parametrize("source", ["google", "sample,yahoo", "csv,sample", "", True])
def test_an_unknown_price_source_is_refused(tmp_path: Path, source: object) -> None:
    with pytest.raises(ValidationError, match="price_source"):
        Settings.model_validate({"data_dir": tmp_path, "price_source": source})


def _refused(*_: object) -> NoReturn:
    raise PricesUnreachable("no network here")


@pytest.mark.parametrize(("function", "n_tiers"), [("api", 2), (None, 1)])
def test_only_on_lambda_the_bucket_keeps_prices_for_other_instances(
    function: str | None, n_tiers: int, tmp_path: Path
) -> None:
    settings = Settings(
        _env_file=None,
        s3_bucket_name="models",
        aws_lambda_function_name=function,
        data_dir=tmp_path,
        price_source="yahoo",
    )

    source = price_source(settings)

    assert isinstance(source, CachedSource)
    assert len(source._tiers) == n_tiers


def test_a_server_with_wrong_settings_ends_with_a_line_for_each_without_its_value(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "API_KEY": "short-secret", "PORT": "none"}
    command = [sys.executable, str(ROOT / "app.py")]

    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == ["PORT", "API_KEY"]
    assert "short-secret" not in ended.stderr


@pytest.mark.parametrize(("setting", "number"), [("3", 3), (" 2 ", 2), ("auto", n_cores()), ("AUTO", n_cores())])
def test_processes_are_a_number_or_one_per_core(monkeypatch: pytest.MonkeyPatch, setting: str, number: int) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", setting)

    assert Settings(_env_file=None).n_processes == number


def test_lambda_has_one_process_whatever_the_setting() -> None:
    assert Settings(_env_file=None, web_concurrency=4, aws_lambda_function_name="serve").n_processes == 1


def test_each_process_has_its_share_of_a_callers_limits() -> None:
    alone = Settings(_env_file=None, rate_limit_requests=60, rate_limit_cpu_s=3)
    one_of_four = alone.model_copy(update={"web_concurrency": 4})
    tight = one_of_four.model_copy(update={"rate_limit_requests": 2})

    def burst(settings: Settings) -> int:
        quotas = quotas_of(settings)
        return sum(quotas.admit("caller").refusal is None for _ in range(100))

    assert [burst(alone), burst(one_of_four), burst(tight)] == [60, 15, 1]


def test_processes_share_their_metrics_in_a_folder_of_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SHARED, "to be restored")
    plain = Settings(_env_file=None, prometheus_multiproc_dir=None)

    shared = sharing_metrics(plain, tmp_path)

    assert (shared.prometheus_multiproc_dir, os.environ[SHARED]) == (tmp_path, str(tmp_path))
    assert sharing_metrics(shared, tmp_path / "other").prometheus_multiproc_dir == tmp_path
