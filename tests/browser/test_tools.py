"""What can be done with the chart: ranges, overlays, past forecasts, and taking the numbers along."""

import csv
import json
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from benchmarks.server import post
from tests.browser.conftest import Open, browsing, eventually, wait_until_loaded

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page(chromium: Browser, server: str) -> Iterator[Page]:
    """A page that has every price; the tests of this module use it one after another."""
    with browsing(chromium) as open_page:
        page = open_page(server)
        wait_until_loaded(page)
        expect(page.locator("#forecast-body")).to_have_attribute("data-complete", "")
        yield page


def chart(page: Page) -> bytes:
    page.wait_for_timeout(300)
    return page.locator("#forecast .chart").screenshot()


def pressed(page: Page, name: str) -> str | None:
    return page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed")


def test_ranges_and_overlays_change_the_chart_without_a_request(page: Page) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    pictures = [chart(page)]

    for name in ("1M", "5Y", "All", "Log", "Averages 20 · 50 · 200", "Volatility"):
        page.get_by_role("button", name=name, exact=True).click()
        pictures.append(chart(page))

    assert [one == other for one, other in pairwise(pictures)] == [False] * 6
    assert (pressed(page, "All"), pressed(page, "1M"), pressed(page, "Log")) == ("true", "false", "true")
    assert "range=All&log=on&averages=on&volatility=on" in page.url
    icon = "/static/icon.svg"  # which Chromium requests again where the address changes
    assert [url for url in requested if not url.endswith(icon)] == []


def test_the_wheel_zooms_after_a_click_and_scrolls_the_page_before(page: Page) -> None:
    before = chart(page)  # which brings the chart into view
    top = page.evaluate("scrollY")
    box = page.locator("#forecast .chart").bounding_box()
    assert box is not None
    centre = box["x"] + box["width"] / 2, box["y"] + 100
    page.mouse.move(*centre)
    page.mouse.wheel(0, 60)
    eventually(page, lambda: page.evaluate("scrollY") == top + 60)
    page.evaluate("top => scrollTo(0, top)", top)

    page.mouse.click(*centre)
    page.mouse.wheel(0, -300)

    eventually(page, lambda: chart(page) != before)
    assert page.evaluate("scrollY") == top


def test_a_tap_reads_the_prices_inside_the_plot(server: str, visit: Open) -> None:
    page = visit(f"{server}/?volatility=on", viewport=PHONE, has_touch=True)
    wait_until_loaded(page)
    box = page.locator("#forecast .chart").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= PHONE["height"]  # the chart is within the first screen

    page.touchscreen.tap(box["x"] + 100, box["y"] + 120)

    read = re.compile(r"2018  open [\d,.]+  high [\d,.]+  low.+  Volatility \d+\.\d%$")
    expect(page.locator(".readout")).to_contain_text(read)


def test_past_forecasts_are_drawn_against_the_closes_that_came(page: Page) -> None:
    page.get_by_role("button", name="3M", exact=True).click()
    before = chart(page)

    page.get_by_role("button", name="Past forecasts").click()

    summary = page.locator("#past .second")
    expect(summary).to_contain_text("Computed now by a backtest")
    found = re.search(r"the last (\d+) sessions, the 80% range contained the close (\d+) times", summary.inner_text())
    assert found
    n, hits = map(int, found.groups())
    assert n == 60
    page.locator("#past summary").click()
    cells = page.locator("#past tbody tr td:last-child").all_inner_texts()
    assert (len(cells), cells.count("yes")) == (60, hits)
    assert chart(page) != before
    page.get_by_role("button", name="Past forecasts").click()
    expect(page.locator("#past")).to_be_empty()


def export(page: Page, name: str) -> str:
    page.get_by_text("Share", exact=True).click()
    with page.expect_download() as saved:
        page.get_by_role("button", name=name).click()
    return saved.value.path().read_text(encoding="utf-8")


def test_the_numbers_are_exported_as_they_are(server: str, page: Page) -> None:
    answer = post(f"{server}/predict/forecast", {"symbol": "^GSPC", "days": 10, "levels": [0.5, 0.8, 0.95]})

    rows = list(csv.DictReader(export(page, "Numbers as CSV").splitlines()))
    document = json.loads(export(page, "Forecast as JSON"))

    ahead = [row for row in rows if row["median"]]
    assert [row["date"] for row in ahead] == [one["date"] for one in answer["forecast"]]
    assert [float(row["upper_80"]) for row in ahead] == [one["intervals"][1]["upper"] for one in answer["forecast"]]
    assert {float(row["no_change"]) for row in ahead} == {answer["persistence"]}
    assert float(rows[-11]["close"]) == answer["base_price"]
    assert document["forecast"] == answer["forecast"]


def test_the_chart_is_exported_as_a_picture(page: Page) -> None:
    page.get_by_text("Share", exact=True).click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Chart as PNG").click()

    assert saved.value.path().read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("This as curl", "/predict/forecast -H 'Content-Type: application/json'"),
        ("This in Python", 'client.forecast_symbol(symbol="^GSPC", days=10, levels=[0.5, 0.8, 0.95]'),
        ("Link", "http://127.0.0.1"),
    ],
)
def test_the_request_is_shown_for_programs(page: Page, name: str, words: str) -> None:
    page.get_by_text("Share", exact=True).click()
    page.get_by_role("button", name=name, exact=True).click()

    dialog = page.get_by_role("dialog")
    expect(dialog.locator("pre")).to_contain_text(words)
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_the_legend_quotes_the_coverage_at_the_horizon_and_marks_what_is_off(server: str, visit: Open) -> None:
    test = post(f"{server}/predict/forecast", {"symbol": "^GSPC", "days": 20, "levels": [0.5, 0.8]})["test"]
    shares = [round(100 * one["empirical_coverage"]) for one in test["coverage"]]
    page = visit(f"{server}/up")

    def altered(route: Route) -> None:
        answer = route.fetch()
        document = answer.json()
        document["test"]["coverage"][1]["empirical_coverage"] = 0.7
        route.fulfill(response=answer, json=document)

    page.goto(f"{server}/?days=20")
    wait_until_loaded(page)
    legend = page.locator("#forecast .legend")
    assert f"80% range · contained {shares[1]}%" in legend.inner_text()
    assert f"measured at 20 sessions, in {test['n_origins']:,} tests on unseen days" in legend.inner_text()
    assert legend.locator(".off").count() == 0
    page.route("**/predict/forecast", altered)
    page.reload()

    expect(legend.locator(".off")).to_have_text("⚠ off by more than 5 points")


def test_a_term_is_explained_where_it_stands_and_linked_to_the_help(page: Page) -> None:
    term = page.locator(".lede .tip").first
    term.get_by_role("link").focus()

    expect(term.get_by_role("tooltip")).to_be_visible()
    assert term.get_by_role("link").get_attribute("href") == "/help?lang=en#range"
