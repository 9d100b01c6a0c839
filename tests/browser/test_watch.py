"""The watch list of a browser, and its tickers side by side."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from benchmarks.server import post
from tests.browser.conftest import WIDE, Open, browsing, scroll_to, wait_until_loaded

pytestmark = pytest.mark.slow

TELEPHONE: ViewportSize = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def page(chromium: Browser, server: str) -> Iterator[Page]:
    """A page whose list has two tickers of the source and one that it does not have."""
    with browsing(chromium) as open_page:
        page = open_page(f"{server}/up")
        page.evaluate("localStorage.setItem('watched', JSON.stringify(['^GSPC', '^IXIC', 'NOPE']))")
        page.goto(server)
        wait_until_loaded(page)
        scroll_to(page, "watch")
        yield page


def rows(page: Page) -> list[str]:
    return [text.split(" ^")[0].strip() for text in page.locator("#watch-body tbody th").all_inner_texts()]


def test_a_row_has_the_forecast_of_the_next_session(server: str, page: Page) -> None:
    answer = post(f"{server}/predict/batch", {"symbols": ["^GSPC"], "days": 1, "levels": [0.8]})["results"][0]["result"]
    interval = answer["forecast"][0]["intervals"][0]

    row = page.locator("#watch-body tbody tr", has_text="S&P 500")

    expect(row).to_contain_text(f"US${answer['base_price']:,.2f}")
    expect(row).to_contain_text(f"{interval['lower']:,.2f} – {interval['upper']:,.2f}")
    expect(row).to_contain_text(f"{answer['explanation']['expected_move_pct']:.2f}%")
    expect(row.locator("[data-drift]")).to_have_text(re.compile("drift"))
    expect(row.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"^30 sessions, -\d"))


def test_a_ticker_that_fails_is_named_with_its_reason(page: Page) -> None:
    expect(page.locator("#watch-body tbody tr", has_text="NOPE")).to_contain_text(
        "The sample prices have ^GSPC, ^IXIC, not NOPE."
    )


def test_the_list_is_sorted_by_the_heading_that_is_pressed(page: Page) -> None:
    head = page.locator("#watch-body thead")
    by_name = rows(page)
    head.get_by_role("button", name="Expected move").click()
    by_move = rows(page)
    head.get_by_role("button", name="Expected move").click()

    assert by_name == ["Nasdaq Composite", "NOPE", "S&P 500"]
    assert by_move == ["Nasdaq Composite", "S&P 500", "NOPE"]  # the largest move first
    assert rows(page) == ["S&P 500", "Nasdaq Composite", "NOPE"]
    assert head.locator("[aria-sort]").get_attribute("aria-sort") == "ascending"


def test_the_list_is_sorted_on_a_telephone_too(page: Page) -> None:
    page.set_viewport_size(TELEPHONE)
    try:
        head = page.locator("#watch-body thead")
        head.get_by_role("button", name="Name").click(timeout=5_000)
        by_name = rows(page)
        head.get_by_role("button", name="Last close").click(timeout=5_000)
    finally:
        page.set_viewport_size(WIDE)

    assert by_name == ["Nasdaq Composite", "NOPE", "S&P 500"]
    assert rows(page) == ["Nasdaq Composite", "S&P 500", "NOPE"]


def test_two_tickers_are_compared_from_the_same_day(page: Page) -> None:
    together = page.locator("#together-body")

    expect(together.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"\^GSPC, \^IXIC, indexed to 100"))
    expect(together.locator("figcaption")).to_contain_text("indexed to 100")
    assert together.locator("tbody tr").count() == 2
    assert re.search(r"-\d\.\d% – \+\d\.\d%", together.locator("tbody tr").first.inner_text())


def test_the_list_is_kept_changed_by_the_star_and_by_name(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    scroll_to(page, "watch", "No tickers yet")

    page.get_by_role("button", name="☆ Watch").click()
    expect(page.get_by_role("button", name="★ Watching")).to_be_visible()
    page.get_by_label("Add a ticker").fill("nasdaq")
    page.locator("#watch-form").get_by_role("button", name="Add").click()
    expect(page.locator("#watch-body tbody tr")).to_have_count(2)
    expect(page.locator("#together-body tbody tr")).to_have_count(2)  # what was added is compared at once
    page.reload()
    wait_until_loaded(page)
    scroll_to(page, "watch", "Nasdaq Composite")
    page.get_by_role("button", name="Remove ^GSPC").click()

    expect(page.locator("#watch-body tbody tr")).to_have_count(1)
    assert page.evaluate("localStorage.getItem('watched')") == '["^IXIC"]'
    expect(page.get_by_role("button", name="☆ Watch")).to_be_visible()


@pytest.mark.parametrize("stored", ["not json", "{}", "[1, null]", "[]"])
def test_a_list_that_another_program_wrote_is_empty(server: str, visit: Open, stored: str) -> None:
    page = visit(f"{server}/up")
    page.evaluate("stored => localStorage.setItem('watched', stored)", stored)

    page.goto(server)

    expect(scroll_to(page, "watch")).to_contain_text("No tickers yet")


def test_the_last_night_is_read_where_there_is_one(server: str, visit: Open) -> None:
    night = {
        "ticker": "^GSPC", "last_close": 1234.5, "as_of": "2018-12-31", "currency": "USD", "session": "2019-01-02",
        "intervals": [{"level": 0.8, "lower": 1200.0, "upper": 1300.0}], "expected_move_pct": 2.0,
        "usual_move_pct": 1.0, "drift": "warning", "closes": [1000.0, 1234.5], "stale": False,
    }  # fmt: skip
    asked: list[str] = []
    page = visit(f"{server}/up")
    page.evaluate("localStorage.setItem('watched', JSON.stringify(['^GSPC']))")
    page.route("**/forecasts/latest?*", lambda route: route.fulfill(json={"forecasts": [night]}))
    page.on("request", lambda request: asked.append(request.url))

    page.goto(server)
    row = scroll_to(page, "watch").locator("tbody tr")

    expect(row).to_contain_text("1,200.00 – 1,300.00")
    expect(row).to_contain_text("1.00% · 2.0×")
    expect(row).to_contain_text("possible drift")
    assert [url for url in asked if url.endswith("/predict/batch")] == []
