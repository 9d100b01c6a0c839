"""Accessibility: axe, the keyboard, and what screen readers announce."""

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Open, scroll_to, wait_until_loaded

pytestmark = pytest.mark.slow

FOCUSED = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const outlined = style.outlineStyle !== 'none' && style.outlineWidth !== '0px';
  return [node.name || node.textContent.trim().slice(0, 40), outlined];
}"""


def grave(page: Page) -> list[tuple[str, list[str]]]:
    """Serious and critical findings of axe, each with its elements."""
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["wide-light", "narrow-dark"])
def test_axe_finds_nothing_grave_and_nothing_is_too_wide(
    server: str, visit: Open, viewport: dict[str, int], scheme: str
) -> None:
    page = visit(server, viewport=viewport, color_scheme=scheme)
    wait_until_loaded(page)
    page.get_by_text("All sessions in figures").click()
    scroll_to(page, "analysis")

    assert grave(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_in_an_error(server: str, visit: Open, scheme: str) -> None:
    page = visit(f"{server}/?ticker=NOPE&model=none-such", color_scheme=scheme)
    wait_until_loaded(page)

    assert page.locator(".problem").count() >= 2
    assert grave(page) == []


def test_the_keyboard_reaches_everything_with_a_visible_focus(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    page.evaluate("document.activeElement.blur()")

    walked = []
    for _ in range(120):
        page.keyboard.press("Tab")
        walked.append(page.evaluate(FOCUSED))
        if walked[-1][0] == "TradingView":
            break

    names = [name for name, _ in walked]
    assert names[0] == "Skip to the forecast"
    assert [name for name, visible in walked if not visible] == []
    places = [names.index(name) for name in ("ticker", "Forecast", "All sessions in figures", "Train", "API")]
    assert places[-1] > places[0] > 0
    for name in (
        "days",
        "Past forecasts",
        "Share",
        "model",
        "Train",
        "Run the backtest",
        "Recent trainings",
        "bundled-20210421-00000001",
    ):
        assert any(name in found or found in name for found in names), name


def test_the_skip_link_jumps_to_the_forecast(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "forecast"


def test_enter_forecasts_a_ticker_and_its_end_is_announced(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)

    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("Forecast of ^IXIC loaded.")


def test_the_chart_is_described_in_words(front_page: Page) -> None:
    assert "95% between" in (front_page.get_by_role("img").first.get_attribute("aria-label") or "")
