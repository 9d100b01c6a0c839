"""Accessibility: the keyboard, and what screen readers announce."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open, wait_until_loaded

pytestmark = pytest.mark.slow

RECORD_FOCUS = """() => {
  window.walked = [];
  addEventListener('focusin', ({ target: node }) => {
    const style = getComputedStyle(node);
    const outlined = style.outlineStyle !== 'none' && style.outlineWidth !== '0px';
    window.walked.push([node.name || node.textContent.trim().slice(0, 40), outlined]);
  });
}"""


@pytest.mark.usefixtures("without_analysis")
def test_the_keyboard_reaches_everything_with_a_visible_focus(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    page.evaluate("document.activeElement.blur()")

    page.evaluate(RECORD_FOCUS)
    names: list[str] = []
    for pressed in range(120):
        page.keyboard.press("Tab")
        if pressed % 10 == 9:
            names = page.evaluate("window.walked.map(([name]) => name)")
        if "TradingView" in names:
            break

    assert names[0] == "Skip to the forecast"
    assert page.evaluate("window.walked.filter(([, visible]) => !visible)") == []
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
    wait_until_loaded(page, "forecast")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "forecast"


def test_enter_forecasts_a_ticker_and_its_end_is_announced(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page, "forecast")

    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_have_text("Forecast of ^IXIC loaded.")
