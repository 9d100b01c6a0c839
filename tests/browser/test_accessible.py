"""Every page is accessible in every width, colour scheme and language."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, Route, expect

from routers.web import FOLDER
from services.language import LANGUAGES
from tests.browser.conftest import browsing, scroll_to, wait_until_loaded

pytestmark = pytest.mark.slow

WIDTHS = (1440, 1024, 800, 390)  # one at least on each side of every limit of the style sheet
SMALLEST = 360
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


def resize(page: Page, width: int) -> None:
    """Change the width and wait for the chart, which follows a frame later."""
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate(DRAWN)


@pytest.fixture(scope="module")
def tab(chromium: Browser, server: str) -> Iterator[Page]:
    """One tab for all pages: it compiles their scripts and axe once, and repeats the answer to a backtest."""
    backtested: dict[str, Any] = {}

    def backtest(route: Route) -> None:
        asked = route.request.post_data or ""
        if asked not in backtested:
            backtested[asked] = route.fetch().json()
        route.fulfill(json=backtested[asked])

    with browsing(chromium) as open_page:
        page = open_page(f"{server}/up")
        page.route("**/backtest", backtest)
        yield page


def load_front(page: Page) -> None:
    wait_until_loaded(page)
    page.locator("#forecast-body details summary").last.click()  # all sessions in figures
    scroll_to(page, "watch")
    expect(page.locator("#together-body h3")).to_be_visible()
    scroll_to(page, "analysis")
    scroll_to(page, "accuracy")
    page.locator("#show-past").click()
    expect(page.locator("#past .second")).to_be_visible()


PAGES: dict[str, Callable[[Page], None]] = {
    "/": load_front,
    "/?ticker=NOPE&model=none-such": lambda page: expect(page.locator("#model-body .problem")).to_be_visible(),
    "/?view=analysis": lambda page: expect(page.locator("#analysis-body svg").first).to_be_visible(),
    "/help": lambda page: expect(page.locator("h1")).to_be_visible(),
}


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_axe_finds_nothing_and_nothing_is_too_wide(tab: Page, server: str, language: str, path: str) -> None:
    tab.emulate_media(color_scheme="light")
    resize(tab, 1440)
    tab.evaluate(WATCHED if path == "/" else "localStorage.clear()")
    tab.goto(f"{server}{path}{'&' if '?' in path else '?'}lang={language}")
    PAGES[path](tab)
    tab.evaluate(AXE_SCRIPT)

    found = {}
    widths = {}
    for width in (*WIDTHS, SMALLEST):
        resize(tab, width)
        widths[width] = tab.evaluate("document.documentElement.scrollWidth")
        if width == SMALLEST:
            break
        # the report has a page of its own; among the other parts only its headings differ, whatever the width
        found[width, "light"] = violations(tab, *([REPORT] if path == "/" and width != 1440 else []))
        tab.emulate_media(color_scheme="dark")  # it changes nothing but colours, as tested below
        found[width, "dark"] = violations(tab, *([REPORT] if path == "/" else []), rules=COLOURS)
        tab.emulate_media(color_scheme="light")

    assert {key: one for key, one in found.items() if one} == {}
    assert widths == {width: width for width in (*WIDTHS, SMALLEST)}


def test_each_layout_of_the_style_sheet_is_tested() -> None:
    style = (FOLDER / "style.css").read_text(encoding="utf-8")

    limits = {16 * int(rem) for rem in re.findall(r"@media \((?:min|max)-width: (\d+)rem\)", style)}

    assert len(limits) == len(re.findall(r"@media[^{]*(?:width|height)", style))
    assert {sum(width > limit for limit in limits) for width in WIDTHS} == set(range(len(limits) + 1))


def test_the_dark_scheme_changes_only_colours() -> None:
    style = (FOLDER / "style.css").read_text(encoding="utf-8")

    dark = re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.+?)\}\s*\}", style, re.DOTALL)

    assert len(dark) == style.count("prefers-color-scheme") == 1
    for declaration in filter(None, map(str.strip, dark[0].split(";"))):
        assert re.fullmatch(r"--[a-z-]+: (#[0-9a-f]{6}|rgba\([\d, .]+\))", declaration)
