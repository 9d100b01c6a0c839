"""The sink of a long-lived server, one per app."""

from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text

from telemetry.measures import (
    ACTIVE_REQUESTS,
    METRICS,
    PREDICTIONS,
    REQUEST_SECONDS,
    REQUESTS,
    TRAININGS,
    ScrapedMeter,
)
from telemetry.prometheus import PrometheusMeter

ROOT = Path(__file__).parent.parent.parent
SUFFIX = {"counter": "", "gauge": "", "histogram": "_count"}


def values(meter: PrometheusMeter, name: str) -> dict[tuple[str, ...], float]:
    """Of each series of a name: its label values, in alphabetical order of the labels, and its value."""
    families = parsed_text(meter.exposition("").content.decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}


@pytest.fixture
def meter() -> PrometheusMeter:
    return PrometheusMeter()


def test_it_can_be_scraped(meter: PrometheusMeter) -> None:
    assert isinstance(meter, ScrapedMeter)


@pytest.mark.parametrize("measure", METRICS, ids=lambda measure: measure.name)
def test_every_measure_is_exposed_under_its_name_with_its_labels(meter: PrometheusMeter, measure: object) -> None:
    found = next(one for one in METRICS if one is measure)
    labels = dict.fromkeys(found.labels, "some")

    meter.record(found, 1.0, **labels)

    shown = values(meter, f"{found.name}{SUFFIX[found.kind]}")
    assert shown[("some",) * len(labels)] == 1


def test_no_two_measures_share_a_name() -> None:
    assert len({measure.name for measure in METRICS}) == len(METRICS)


def test_every_measure_is_described() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")

    for measure in METRICS:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{measure.name}` | {measure.kind} |")]
        assert all(f"`{label}`" in row for label in measure.labels), row


def test_counters_add_up_gauges_are_set_and_histograms_collect(meter: PrometheusMeter) -> None:
    for value in (3, 2):
        meter.record(REQUESTS, method="GET", endpoint="/up", status="200")
        meter.record(ACTIVE_REQUESTS, value)
        meter.record(REQUEST_SECONDS, value, method="GET", endpoint="/up")

    assert values(meter, "http_requests_total") == {("/up", "GET", "200"): 2}
    assert values(meter, "http_active_requests") == {(): 2}
    assert values(meter, "http_request_duration_seconds_sum") == {("/up", "GET"): 5}
    assert values(meter, "http_request_duration_seconds_bucket")["/up", "2.5", "GET"] == 1


def test_what_can_fail_is_0_before_it_does(meter: PrometheusMeter) -> None:
    assert values(meter, "training_jobs_total") == dict.fromkeys(TRAININGS.initial_labels, 0)


def test_two_apps_in_one_process_do_not_count_into_each_other(meter: PrometheusMeter) -> None:
    other = PrometheusMeter()

    meter.record(PREDICTIONS, type="live")

    assert (meter.total(PREDICTIONS), other.total(PREDICTIONS)) == (1, 0)


def test_a_total_is_that_of_all_series(meter: PrometheusMeter) -> None:
    for kind in ("live", "live", "batch"):
        meter.record(PREDICTIONS, type=kind)

    assert meter.total(PREDICTIONS) == 3


def test_a_label_that_the_catalogue_does_not_know_is_a_mistake_of_ours(meter: PrometheusMeter) -> None:
    with pytest.raises(ValueError, match="label"):
        meter.record(PREDICTIONS, ticker="PETR4.SA")


def test_whoever_asks_for_openmetrics_gets_it(meter: PrometheusMeter) -> None:
    exposed = meter.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert exposed.media_type.startswith("application/openmetrics-text; version=1.0.0")
    families = list(parsed_openmetrics(exposed.content.decode()))  # type: ignore[no-untyped-call]
    assert len(families) >= len(METRICS)


@pytest.mark.parametrize("accept", ["", "*/*", "image/png", "text/plain;version=0.0.4", "\x00;;;=,,q"])
def test_whoever_asks_for_anything_else_gets_text(meter: PrometheusMeter, accept: str) -> None:
    assert meter.exposition(accept).media_type == "text/plain; version=0.0.4; charset=utf-8"


@pytest.mark.parametrize("version", ["abc", "1.x", "", "1.0.0.0.0", "-1"])
def test_a_version_that_is_no_number_is_answered_all_the_same(version: str) -> None:
    exposed = PrometheusMeter().exposition(f"application/openmetrics-text; version={version}")

    assert b"http_requests" in exposed.content
