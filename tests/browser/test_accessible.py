"""Every page is accessible in every width, colour scheme and language."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.browser.conftest import browsing, scroll_to, wait_until_loaded

pytestmark = pytest.mark.slow

SIZES = {1440: 900, 1024: 768, 390: 844}
SMALLEST: ViewportSize = {"width": 360, "height": 740}
WATCHED = "localStorage.setItem('watched', JSON.stringify(['^GSPC', '^IXIC', 'NOPE']))"


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """All findings of axe, each with its elements."""
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"]]) for one in Axe().run(page).response["violations"]
    ]


@pytest.fixture(scope="module", params=["en", "pt-BR"])
def pages(request: pytest.FixtureRequest, chromium: Browser, server: str) -> Iterator[dict[str, Page]]:
    """Every page in a language, loaded once: width and colour scheme change without a request."""
    language = request.param
    with browsing(chromium) as open_page:
        front = open_page(f"{server}/up")
        front.evaluate(WATCHED)
        front.goto(f"{server}/?lang={language}")
        wait_until_loaded(front)
        front.locator("#forecast-body details summary").last.click()  # all sessions in figures
        scroll_to(front, "watch")
        expect(front.locator("#together-body h3")).to_be_visible()
        scroll_to(front, "accuracy")
        front.locator("#show-past").click()
        expect(front.locator("#past .second")).to_be_visible()
        error = open_page(f"{server}/?ticker=NOPE&model=none-such&lang={language}")
        expect(error.locator("#model-body .problem")).to_be_visible()
        analysis = open_page(f"{server}/?view=analysis&lang={language}")
        expect(analysis.locator("#analysis-body svg").first).to_be_visible()
        yield {
            "front": front,
            "error": error,
            "analysis": analysis,
            "help": open_page(f"{server}/help?lang={language}"),
        }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_axe_finds_nothing_and_nothing_is_too_wide(pages: dict[str, Page], width: int, scheme: str) -> None:
    found: dict[str, list[tuple[str, list[str]]]] = {}
    widths = {}
    for name, page in pages.items():
        page.set_viewport_size({"width": width, "height": SIZES[width]})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of its two words
        found[name] = violations(page)
        widths[name] = page.evaluate("document.documentElement.scrollWidth")

    assert found == {name: [] for name in pages}
    assert widths == dict.fromkeys(pages, width)


def test_nothing_is_too_wide_for_a_small_telephone(pages: dict[str, Page]) -> None:
    for page in pages.values():
        page.set_viewport_size(SMALLEST)

        assert page.evaluate("document.documentElement.scrollWidth") == SMALLEST["width"]
