from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text

from telemetry.measures import ACTIVE_REQUESTS, METRICS, PREDICTIONS, REQUEST_SECONDS, REQUESTS, TRAININGS, Metric
from telemetry.prometheus import PrometheusMeter

ROOT = Path(__file__).parent.parent.parent
SUFFIX = {"counter": "", "gauge": "", "histogram": "_count"}


def values(meter: PrometheusMeter, name: str) -> dict[tuple[str, ...], float]:
    """Value of each series by its label values, in alphabetical order of the labels."""
    families = parsed_text(meter.exposition("").content.decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}


@pytest.fixture
def meter() -> PrometheusMeter:
    return PrometheusMeter()


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_exposed_and_documented_with_its_labels(meter: PrometheusMeter, metric: Metric) -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8").splitlines()

    meter.record(metric, 1.0, **dict.fromkeys(metric.labels, "some"))

    assert values(meter, f"{metric.name}{SUFFIX[metric.kind]}")[("some",) * len(metric.labels)] == 1
    (row,) = [line for line in page if line.startswith(f"| `{metric.name}` | {metric.kind} |")]
    assert all(f"`{label}`" in row for label in metric.labels), row


def test_counters_add_up_gauges_are_set_and_histograms_collect(meter: PrometheusMeter) -> None:
    for value in (3, 2):
        meter.record(REQUESTS, method="GET", endpoint="/up", status="200")
        meter.record(ACTIVE_REQUESTS, value)
        meter.record(REQUEST_SECONDS, value, method="GET", endpoint="/up")

    assert values(meter, "http_requests_total") == {("/up", "GET", "200"): 2}
    assert values(meter, "http_active_requests") == {(): 2}
    assert values(meter, "http_request_duration_seconds_sum") == {("/up", "GET"): 5}
    assert values(meter, "http_request_duration_seconds_bucket")["/up", "2.5", "GET"] == 1


def test_counters_with_known_labels_start_at_0(meter: PrometheusMeter) -> None:
    assert values(meter, "training_jobs_total") == dict.fromkeys(TRAININGS.initial_labels, 0)


def test_total_sums_all_series_of_its_own_meter(meter: PrometheusMeter) -> None:
    other = PrometheusMeter()

    for kind in ("live", "live", "batch"):
        meter.record(PREDICTIONS, type=kind)

    assert (meter.total(PREDICTIONS), other.total(PREDICTIONS)) == (3, 0)


def test_an_unknown_label_raises(meter: PrometheusMeter) -> None:
    with pytest.raises(ValueError, match="label"):
        meter.record(PREDICTIONS, ticker="PETR4.SA")


def test_openmetrics_is_served_on_request(meter: PrometheusMeter) -> None:
    exposed = meter.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert exposed.media_type.startswith("application/openmetrics-text; version=1.0.0")
    families = list(parsed_openmetrics(exposed.content.decode()))  # type: ignore[no-untyped-call]
    assert len(families) >= len(METRICS)


@pytest.mark.parametrize("accept", ["", "*/*", "image/png", "text/plain;version=0.0.4", "\x00;;;=,,q"])
def test_text_is_served_otherwise(meter: PrometheusMeter, accept: str) -> None:
    assert meter.exposition(accept).media_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("version", ["abc", "1.x", "", "1.0.0.0.0", "-1"])
def test_an_invalid_openmetrics_version_is_no_error(meter: PrometheusMeter, version: str) -> None:
    assert b"http_requests" in meter.exposition(f"application/openmetrics-text; version={version}").content
