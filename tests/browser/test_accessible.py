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

LAYOUTS = {1440: 900, 800: 1000, 390: 844}  # a width on each side of every limit of the style sheet
WATCHED = "localStorage.setItem('watched', JSON.stringify(['^GSPC', '^IXIC', 'NOPE']))"
REPORT = "#analysis-body"
COLOURS = ["color-contrast", "link-in-text-block"]  # the rules of axe that read colours
SIMPLIFY = """() => {
  for (const svg of document.querySelectorAll('svg[role=img]')) svg.replaceChildren();
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
    """All findings of axe with their elements; not in rows that repeat the markup of another, nor in ``beyond``.

    Drawings are emptied before: to a screen reader each is one image, and axe does not read the colour of its text.
    """
    page.evaluate(SIMPLIFY)
    found: list[list[Any]] = page.evaluate(VIOLATIONS, [["[data-repeated]", *beyond], rules])
    return [(rule, elements) for rule, elements in found]


def resize(page: Page, size: ViewportSize) -> None:
    """Change the width and wait for the chart, which follows a frame later."""
    page.set_viewport_size(size)
    page.evaluate(DRAWN)


def content_width(page: Page) -> int:
    width: int = page.evaluate("document.documentElement.scrollWidth")
    return width


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
        yield loaded


@pytest.mark.parametrize("width", LAYOUTS)
def test_axe_finds_nothing_and_nothing_is_too_wide(pages: dict[str, Page], width: int) -> None:
    found = {}
    widths = {}
    for name, page in pages.items():
        page.emulate_media(color_scheme="light")
        resize(page, {"width": width, "height": LAYOUTS[width]})
        # the report has a page of its own; among the other parts only its headings differ, whatever the width
        beyond = [REPORT] if name == "front" and width != 1440 else []
        found[name] = violations(page, *beyond)
        widths[name] = content_width(page)

    assert found == {name: [] for name in pages}
    assert widths == dict.fromkeys(pages, width)


def test_each_layout_of_the_style_sheet_is_tested() -> None:
    style = (FOLDER / "style.css").read_text(encoding="utf-8")

    limits = {16 * int(rem) for rem in re.findall(r"@media \((?:min|max)-width: (\d+)rem\)", style)}

    assert len(limits) == len(re.findall(r"@media[^{]*(?:width|height)", style))
    assert sorted(sum(width > limit for limit in limits) for width in LAYOUTS) == list(range(len(limits) + 1))


@pytest.mark.parametrize("width", LAYOUTS)
@pytest.mark.parametrize("pages", ["en"], indirect=True)  # words have no colours
def test_the_dark_scheme_has_enough_contrast(pages: dict[str, Page], width: int) -> None:
    found = {}
    for name, page in pages.items():
        page.emulate_media(color_scheme="dark")
        resize(page, {"width": width, "height": LAYOUTS[width]})
        found[name] = violations(page, *([REPORT] if name == "front" else []), rules=COLOURS)

    assert found == {name: [] for name in pages}


def test_the_dark_scheme_changes_only_colours() -> None:
    style = (FOLDER / "style.css").read_text(encoding="utf-8")

    dark = re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.+?)\}\s*\}", style, re.DOTALL)

    assert len(dark) == style.count("prefers-color-scheme") == 1
    for declaration in filter(None, map(str.strip, dark[0].split(";"))):
        assert re.fullmatch(r"--[a-z-]+: (#[0-9a-f]{6}|rgba\([\d, .]+\))", declaration)


@pytest.mark.parametrize("width", [1024, 360])
def test_nothing_is_too_wide_in_other_widths(pages: dict[str, Page], width: int) -> None:
    for page in pages.values():
        resize(page, {"width": width, "height": 740})

        assert content_width(page) == width
