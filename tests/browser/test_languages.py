"""Portuguese and English: chosen by the browser, the address or the switch, and clean in both."""

import re

import pytest
from playwright.sync_api import expect

from routers.web import FOLDER, words_of
from tests.browser.conftest import Open, scroll_to, wait_until_loaded

pytestmark = pytest.mark.slow


def test_the_page_speaks_the_language_of_the_browser_with_its_numbers_and_errors(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=NOPE", locale="pt-BR")
    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text("Ticker não encontrado")
    expect(alert).to_contain_text("Os preços de demonstração têm ^GSPC, ^IXIC, não NOPE")

    alert.get_by_role("button", name="S&P 500").click()

    lede = page.locator(".lede")
    expect(lede).to_contain_text(re.compile(r"Previsão para qua\., 2 de jan\. de 2019: US\$\s2\.5\d\d,\d\d "))
    expect(page.locator("#forecast-body .note")).to_contain_text("Os preços terminam em 2018-12-31")
    said = page.locator("#forecast-body .second").first
    expect(said).to_contain_text(re.compile(r"O movimento diário esperado é de 1,\d\d%"))
    report = scroll_to(page, "analysis", "É possível prever?")
    assert "Deepest" not in report.inner_text()


def test_the_switch_changes_the_language_and_is_remembered(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=^IXIC")
    wait_until_loaded(page)

    page.get_by_role("button", name="Português").click()
    expect(page.locator("h2").first).to_have_text("Favoritos")
    kept = page.url
    page.goto(f"{server}/")

    expect(page.locator("h2").first).to_have_text("Favoritos")
    assert "ticker=%5EIXIC" in kept
    assert "lang=pt-BR" in kept
    assert "lang=pt-BR" in page.url


def test_no_english_word_of_the_catalogue_is_left_in_portuguese(server: str, visit: Open) -> None:
    page = visit(server, locale="pt-BR")
    wait_until_loaded(page)
    shown = page.locator("body").inner_text()

    english, portuguese = (
        words_of(FOLDER / f"index.{one}.json") | words_of(FOLDER / f"{one}.js") for one in ("en", "pt-BR")
    )
    left = [
        text
        for key, text in english.items()
        if text != portuguese[key] and " " in text and "{" not in text and re.search(rf"\b{re.escape(text)}\b", shown)
    ]
    assert left == []
