"""Finding a ticker by name, and what an unknown one offers."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from config import Settings
from tests.browser.conftest import Open, wait_until_loaded
from tests.fakes import application
from tests.serving import served

pytestmark = pytest.mark.slow


def ticker_field(page: Page) -> str:
    return page.get_by_label("Ticker", exact=True).input_value()


def test_a_name_is_found_while_it_is_typed_and_picked_by_keyboard(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page, "forecast")
    field = page.get_by_role("combobox", name="Ticker", exact=True)

    field.fill("nasd")
    option = page.locator(".found").first.get_by_role("option")
    expect(option).to_have_text("Nasdaq Composite ^IXIC · US index · USD")
    assert field.get_attribute("aria-expanded") == "true"
    page.keyboard.press("ArrowDown")
    active = field.get_attribute("aria-activedescendant")
    selected = option.get_attribute("aria-selected"), option.get_attribute("id")
    page.keyboard.press("Enter")

    expect(page.locator("h1")).to_have_text("Nasdaq Composite ^IXIC · US index · USD")
    assert selected == ("true", active)
    assert page.locator(".found").first.get_by_role("option").count() == 0
    assert (ticker_field(page), page.url.partition("?")[2]) == ("^IXIC", "ticker=%5EIXIC")


def test_escape_closes_the_list_and_keeps_the_text(server: str, visit: Open) -> None:
    page = visit(server)
    field = page.get_by_role("combobox", name="Ticker", exact=True)
    field.fill("s&p")
    expect(page.locator(".found").first.get_by_role("option")).to_be_visible()

    page.keyboard.press("Escape")

    expect(page.locator(".found").first.get_by_role("option")).to_have_count(0)
    assert ticker_field(page) == "s&p"


def test_a_typed_name_forecasts_the_ticker_that_it_means(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=^IXIC")
    wait_until_loaded(page, "forecast")

    page.get_by_label("Ticker", exact=True).fill("S&P 500")
    page.get_by_role("button", name="Forecast", exact=True).click()

    expect(page.locator("h1")).to_contain_text("^GSPC")
    assert ticker_field(page) == "^GSPC"


def test_an_unknown_ticker_offers_what_is_near_and_what_is_there(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=NASDAK")
    near = page.locator("#forecast-body .near")
    expect(near).to_contain_text("Nasdaq Composite · ^IXIC")

    near.get_by_role("button", name="S&P 500").click()

    expect(page.locator(".lede")).to_be_visible()
    expect(page.locator("h1")).to_contain_text("^GSPC")


def test_the_page_opens_on_a_ticker_that_the_source_has(tmp_path: Path, visit: Open) -> None:
    rows = [f"2024-{1 + day // 28:02}-{1 + day % 28:02},{100 + day % 7}" for day in range(300)]
    (tmp_path / "VALE3.SA.csv").write_text("\n".join(["Date,Close", *rows]), encoding="utf-8")
    settings = Settings(_env_file=None, data_dir=tmp_path / "data", price_source="csv", price_dir=tmp_path)

    with served(application(settings)) as url:
        page = visit(url)

        expect(page.locator("h1")).to_contain_text("Vale ON VALE3.SA · B3 · BRL")
        expect(page.get_by_label("Ticker", exact=True)).to_have_value("VALE3.SA")
