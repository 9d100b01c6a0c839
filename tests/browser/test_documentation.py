"""The documentation pages and the page of an analysis work under their Content-Security-Policy."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open

pytestmark = pytest.mark.slow  # `visit` fails on whatever Chromium logs as an error: each violation of a policy is one

LISTEN = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


def violations(page: Page) -> list[str]:
    found: list[str] = page.evaluate("window.violations ?? []")
    return found


def test_swagger_ui_executes_a_request(server: str, visit: Open) -> None:
    page = visit(f"{server}/up")
    page.add_init_script(LISTEN)
    page.goto(f"{server}/docs")
    operation = page.locator(".opblock", has_text="/up").first

    operation.locator(".opblock-summary").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()

    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")
    expect(operation.locator(".live-responses-table")).to_contain_text('"status": "ok"')
    assert violations(page) == []


def test_redoc_draws_the_reference_and_searches_it(server: str, visit: Open) -> None:
    page = visit(f"{server}/up")
    page.add_init_script(LISTEN)
    page.goto(f"{server}/redoc")

    expect(page.get_by_role("heading", name="Stock forecast API").first).to_be_visible()
    page.get_by_placeholder("Search...").fill("backtest")
    expect(page.locator("[role=search] [data-role='search:results']")).to_contain_text("Accuracy on past origins")
    assert violations(page) == []


def test_the_page_of_an_analysis_breaks_no_policy(server: str, visit: Open) -> None:
    page = visit(f"{server}/up")
    page.add_init_script(LISTEN)
    page.goto(f"{server}/analysis/%5EGSPC?format=html")

    expect(page.locator("svg").first).to_be_visible()
    assert violations(page) == []
