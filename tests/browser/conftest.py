"""A real Chromium with a real server on loopback; a failed script or a request elsewhere fails its test at the end."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from config import Settings
from tests.fakes import application
from tests.serving import served

WIDE: ViewportSize = {"width": 1024, "height": 700}  # both columns; the processor draws each pixel
NARROW = {"width": 360, "height": 740}
# a page that scrolls smoothly draws a hundred frames wherever a test goes
DEFAULTS: dict[str, object] = {"viewport": WIDE, "locale": "en-GB", "reduced_motion": "reduce"}
TIMEOUT_MS = 90_000  # a training runs at low priority
expect.set_options(timeout=TIMEOUT_MS)

Open = Callable[..., Page]
LOCAL = ("data:", "blob:")  # what a page has made itself


@pytest.fixture(scope="session")
def launched() -> Iterator[tuple[Browser, asyncio.AbstractEventLoop]]:
    """The browser and Playwright's event loop, which waits until ``chromium`` goes on with it.

    In the old headless mode, where that is installed: a page takes half as much processor time as in the new one.
    """
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None:
        pytest.skip("apt-get install chromium-headless-shell, or chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield browser, loop
        asyncio._set_running_loop(loop)
        browser.close()


@pytest.fixture(scope="module")
def chromium(launched: tuple[Browser, asyncio.AbstractEventLoop]) -> Iterator[Browser]:
    """The browser. Between its calls, Playwright's loop counts as running here, where later modules run their own."""
    browser, loop = launched
    asyncio._set_running_loop(loop)
    yield browser
    asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The application on the sample prices. In this process, which has imported what a new one would import again."""
    settings = Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("data"), price_source="sample")
    with served(application(settings)) as url:
        yield url


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """The application in this process, which a test changes before it is ``served``."""
    return application(Settings(_env_file=None, data_dir=tmp_path, price_source="sample"))


@pytest.fixture
def without_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the libraries of the analysis, which takes seconds on a page that needs none."""
    monkeypatch.setattr("services.analysis.report.find_spec", lambda _: None)


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until the condition holds. Playwright's ``wait_for_function`` uses eval, which the page's policy forbids."""
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, "timed out"
        page.wait_for_timeout(100)


def wait_until_loaded(page: Page, *parts: str) -> None:
    """Wait for these parts of the page; without any, for all that load by themselves."""
    for part in parts or ("forecast", "model", "compare"):
        body = page.locator(f"#{part}-body")
        expect(body.locator(":scope > :not(.busy)").first).to_be_visible()
        expect(body).not_to_have_attribute("aria-busy", "true")


def scroll_to(page: Page, part: str, text: str = "") -> Locator:
    """Scroll until the part has loaded and contains the text: parts above that load later push it out of view."""
    body = page.locator(f"#{part}-body")

    def loaded() -> bool:
        page.locator(f"#{part}").scroll_into_view_if_needed()
        done = body.locator(":scope > :not(.busy)").count() > 0 and body.get_attribute("aria-busy") is None
        return done and text in body.inner_text()

    eventually(page, loaded)
    return body


@contextmanager
def browsing(chromium: Browser) -> Iterator[Open]:
    """Opens addresses, each in a context of its own; at the end checks that no request left and no script failed."""
    pages: list[Page] = []
    requested: list[tuple[str, str]] = []
    complaints: list[str] = []

    def open_page(url: str, **options: object) -> Page:
        context = chromium.new_context(**(DEFAULTS | options))  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        origin = urlsplit(url).netloc
        page.on("request", lambda request: requested.append((origin, request.url)))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(url)
        return page

    yield open_page

    for page in pages:
        page.context.close()
    assert [url for origin, url in requested if urlsplit(url).netloc != origin and not url.startswith(LOCAL)] == []
    # Chromium logs every answer of 400 and above as an error, and a problem in place of a script; the page shows those
    expected = ("Failed to load resource", "application/problem+json")
    assert [text for text in complaints if not any(words in text for words in expected)] == []


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    with browsing(chromium) as open_page:
        yield open_page


@pytest.fixture(scope="module")
def front_page(chromium: Browser, server: str) -> Iterator[Page]:
    """The page of the server, loaded once for the tests that only read it."""
    with browsing(chromium) as open_page:
        page = open_page(server)
        wait_until_loaded(page)
        yield page
