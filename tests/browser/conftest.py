"""A real Chromium before a real server on loopback; what a page does wrong unseen fails its test at the end."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from benchmarks.server import running_server
from config import Settings
from tests.fakes import application
from tests.processes import free_port

WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 360, "height": 740}
PATIENCE_MS = 90_000  # a training makes way for everything else that runs
expect.set_options(timeout=PATIENCE_MS)

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One per module: Playwright's event loop runs in this thread, where other tests run loops of their own."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The program as a user starts it, on the sample prices."""
    with running_server({"PRICE_SOURCE": "sample", "DATA_DIR": str(tmp_path_factory.mktemp("data"))}) as url:
        yield url


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """The application in this process, to be changed before it is ``served``."""
    return application(Settings(_env_file=None, data_dir=tmp_path, price_source="sample"))


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of the application, served by a thread of this process."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait until it holds; Playwright's own waiting would evaluate a text, which the page's policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        page.wait_for_timeout(100)


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Open]:
    """Opens an address in a browser of its own; at the end nothing may have left it, and no script have failed."""
    pages: list[Page] = []
    requested: list[tuple[str, str]] = []
    complaints: list[str] = []

    def open_page(url: str, **options: object) -> Page:
        context = chromium.new_context(**{"viewport": WIDE, "locale": "en-GB", **options})  # type: ignore[arg-type]
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        origin = urlsplit(url).netloc

        def note(request: Request) -> None:
            requested.append((origin, request.url))

        page.on("request", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(url)
        return page

    yield open_page

    for page in pages:
        page.context.close()
    assert [url for origin, url in requested if urlsplit(url).netloc != origin and not url.startswith("data:")] == []
    # Chromium itself complains of every answer of 400 and above; the page says what to do about it
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
