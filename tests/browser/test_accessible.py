"""Every page is accessible in every width, colour scheme and language."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, Route, ViewportSize, expect

from routers.web import FOLDER
from tests.browser.conftest import browsing, scroll_to, wait_until_loaded

pytestmark = pytest.mark.slow

SIZES = {1440: 900, 1024: 768, 390: 844}
SMALLEST: ViewportSize = {"width": 360, "height": 740}
WATCHED = "localStorage.setItem('watched', JSON.stringify(['^GSPC', '^IXIC', 'NOPE']))"


COLOURS = ["color-contrast", "link-in-text-block"]  # the rules of axe that read colours
MARK_REPEATED_ROWS = """() => {
  for (const body of document.querySelectorAll('tbody')) {
    const seen = new Set();
    for (const row of body.rows) {
      const markup = row.outerHTML.replace(/>[^<]+/g, '>text');
      row.toggleAttribute('data-repeated', seen.has(markup) && row !== body.lastElementChild);
      seen.add(markup);
    }
  }
}"""
VIOLATIONS = """async ([exclude, rules]) => {
  const options = { resultTypes: ['violations'], ...(rules && { runOnly: { type: 'rule', values: rules } }) };
  const { violations } = await axe.run({ exclude }, options);
  return violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html.slice(0, 200))]);
}"""
DRAWN = """() => new Promise((done) => {
  requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done)));
})"""


def violations(page: Page, *beyond: str, rules: list[str] | None = None) -> list[tuple[str, list[str]]]:
    """All findings of axe with their elements; not in rows that repeat the markup of another, nor in ``beyond``."""
    found: list[list[Any]] = page.evaluate(VIOLATIONS, [["[data-repeated]", *beyond], rules])
    return [(rule, elements) for rule, elements in found]


def resize(page: Page, size: ViewportSize) -> None:
    """Change the width and wait for the chart, which follows a frame later."""
    page.set_viewport_size(size)
    page.evaluate(DRAWN)


@pytest.fixture(scope="module")
def backtested() -> dict[str, Any]:
    """The answer to each request for a backtest, which is the same in every language."""
    return {}


@pytest.fixture(scope="module", params=["en", "pt-BR"])
def pages(
    request: pytest.FixtureRequest, chromium: Browser, server: str, backtested: dict[str, Any]
) -> Iterator[dict[str, Page]]:
    """Every page in a language, loaded once: width and colour scheme change without a request."""
    language = request.param

    def backtest(route: Route) -> None:
        asked = route.request.post_data or ""
        if asked not in backtested:
            backtested[asked] = route.fetch().json()
        route.fulfill(json=backtested[asked])

    with browsing(chromium) as open_page:
        front = open_page(f"{server}/up")
        front.evaluate(WATCHED)
        front.goto(f"{server}/?lang={language}")
        wait_until_loaded(front)
        front.locator("#forecast-body details summary").last.click()  # all sessions in figures
        scroll_to(front, "watch")
        expect(front.locator("#together-body h3")).to_be_visible()
        scroll_to(front, "analysis")
        front.route("**/backtest", backtest)
        scroll_to(front, "accuracy")
        front.locator("#show-past").click()
        expect(front.locator("#past .second")).to_be_visible()
        error = open_page(f"{server}/?ticker=NOPE&model=none-such&lang={language}")
        expect(error.locator("#model-body .problem")).to_be_visible()
        analysis = open_page(f"{server}/?view=analysis&lang={language}")
        expect(analysis.locator("#analysis-body svg").first).to_be_visible()
        loaded = {
            "front": front,
            "error": error,
            "analysis": analysis,
            "help": open_page(f"{server}/help?lang={language}"),
        }
        for page in loaded.values():
            page.evaluate(AXE_SCRIPT)
            page.evaluate(MARK_REPEATED_ROWS)
        yield loaded


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_axe_finds_nothing_and_nothing_is_too_wide(pages: dict[str, Page], width: int, scheme: str) -> None:
    found: dict[str, list[tuple[str, list[str]]]] = {}
    widths = {}
    rules = COLOURS if scheme == "dark" else None  # it changes nothing else, as tested below
    for name, page in pages.items():
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its two words
        resize(page, {"width": width, "height": SIZES[width]})
        # the report has a page of its own; among the other parts only its headings differ, whatever the width
        beyond = ["#analysis-body"] if name == "front" and (width, scheme) != (1440, "light") else []
        if scheme == "dark":
            beyond.append("svg")  # axe reads the colour of text, and that of a drawing is its fill
        found[name] = violations(page, *beyond, rules=rules)
        widths[name] = page.evaluate("document.documentElement.scrollWidth")

    assert found == {name: [] for name in pages}
    assert widths == dict.fromkeys(pages, width)


def test_the_dark_scheme_changes_only_colours() -> None:
    style = (FOLDER / "style.css").read_text(encoding="utf-8")

    dark = re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.+?)\}\s*\}", style, re.DOTALL)

    assert len(dark) == style.count("prefers-color-scheme") == 1
    for declaration in filter(None, map(str.strip, dark[0].split(";"))):
        assert re.fullmatch(r"--[a-z-]+: (#[0-9a-f]{6}|rgba\([\d, .]+\))", declaration)


def test_nothing_is_too_wide_for_a_small_telephone(pages: dict[str, Page]) -> None:
    for page in pages.values():
        resize(page, SMALLEST)

        assert page.evaluate("document.documentElement.scrollWidth") == SMALLEST["width"]
