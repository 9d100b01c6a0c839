"""The page for everybody: checked by axe, walked through by keyboard, told to those who do not see it."""

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Open

pytestmark = pytest.mark.slow

FOCUSED = """() => {
  const node = document.activeElement;
  const style = getComputedStyle(node);
  const outlined = style.outlineStyle !== 'none' && style.outlineWidth !== '0px';
  return [node.name || node.textContent.trim().slice(0, 40), outlined];
}"""


def settle(page: Page) -> None:
    for part in ("forecast", "model", "compare"):
        expect(page.locator(f"#{part}-body > *").first).to_be_visible()
        expect(page.locator(f"#{part}-body")).not_to_have_attribute("aria-busy", "true")
    expect(page.locator("#compare-body > *").last).to_be_visible()


def grave(page: Page) -> list[tuple[str, list[str]]]:
    """What axe calls serious or critical, each with the elements it means."""
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing_grave(server: str, visit: Open, viewport: dict[str, int], scheme: str) -> None:
    page = visit(server, viewport=viewport, color_scheme=scheme)
    settle(page)
    page.get_by_text("All sessions in figures").click()

    assert grave(page) == []


@pytest.mark.parametrize(("viewport", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_axe_finds_nothing_grave_in_the_analysis(
    server: str, visit: Open, viewport: dict[str, int], scheme: str
) -> None:
    page = visit(server, viewport=viewport, color_scheme=scheme)
    settle(page)
    page.locator("#analysis").scroll_into_view_if_needed()
    expect(page.locator("#analysis-body figure").first).to_be_visible()

    assert grave(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave_in_an_error(server: str, visit: Open, scheme: str) -> None:
    page = visit(f"{server}/?ticker=NOPE&model=none-such", color_scheme=scheme)
    settle(page)

    assert page.locator(".problem").count() >= 2
    assert grave(page) == []


def test_the_keyboard_reaches_everything_and_sees_where_it_is(server: str, visit: Open) -> None:
    page = visit(server)
    settle(page)
    page.evaluate("document.activeElement.blur()")

    walked = []
    for _ in range(60):
        page.keyboard.press("Tab")
        walked.append(page.evaluate(FOCUSED))
        if walked[-1][0] == "TradingView":
            break

    names = [name for name, _ in walked]
    assert names[0] == "Skip to the forecast"
    assert [name for name, visible in walked if not visible] == []
    places = [names.index(name) for name in ("ticker", "Forecast", "All sessions in figures", "Train", "API")]
    assert places[-1] > places[0] > 0
    for name in ("days", "history", "Train", "Run the backtest", "Recent trainings", "bundled-20181231-00000001"):
        assert any(name in found or found in name for found in names), name


def test_the_skip_link_leads_past_the_fields(server: str, visit: Open) -> None:
    page = visit(server)
    settle(page)

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "forecast"


def test_a_ticker_is_forecast_by_enter_and_the_end_is_announced(server: str, visit: Open) -> None:
    page = visit(server)
    settle(page)

    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("Forecast of ^IXIC loaded.")


def test_an_error_is_an_alert(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=NOPE")

    expect(page.get_by_role("alert").first).to_contain_text("Ticker not found")


def test_the_chart_says_what_it_shows(server: str, visit: Open) -> None:
    page = visit(server)
    settle(page)

    assert "95% between" in (page.get_by_role("img").first.get_attribute("aria-label") or "")
