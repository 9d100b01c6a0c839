"""The size of the page, and the time until a visitor sees a forecast.

    python -m benchmarks.page [--visits 10]

The size is that of the page in one language and of its own files as a browser loads them, uncompressed, without the
chart library; next to it the gzipped size that is sent. The time runs from navigation to the frame after the first
forecast is drawn, in Debian's Chromium (apt-get install chromium), on the sample prices: for a server that has just
started and still imports what it needs, and for later visits, each by a browser with empty caches.

Exits with 1 where the page is larger than its target, or the median of later visits slower.
"""

import argparse
import gzip
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterable

from playwright.sync_api import Browser, sync_playwright

from benchmarks.server import running_server
from routers import web
from routers.middleware import GZIP_LEVEL
from services.language import LANGUAGES

TARGET_BYTES = 120 * 1024
TARGET_MS = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=10)
    visits = parser.parse_args().visits
    own, sent = max(sizes(web.loaded_by_a_visitor(language).values()) for language in LANGUAGES)
    print(f"{'the page itself':<32} {own:>9,} bytes (target below {TARGET_BYTES:,}), {sent:,} gzipped")
    library, sent = sizes(path.read_bytes() for path in [web.chart_library()] if path)
    print(f"{'the chart library':<32} {library:>9,} bytes, {sent:,} gzipped")
    with (
        tempfile.TemporaryDirectory() as data,
        running_server({"PRICE_SOURCE": "sample", "DATA_DIR": data}) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        first, *later = [painted_ms(browser, url) for _ in range(visits + 1)]
        browser.close()
    print(f"{'first visit to a fresh server':<32} {first:>9,.0f} ms")
    median = statistics.median(later)
    slowest = f"slowest {max(later):,.0f} ms of {visits}"
    print(f"{'later visits, median':<32} {median:>9,.0f} ms (target {TARGET_MS:,}), {slowest}")
    if own >= TARGET_BYTES or median > TARGET_MS:
        sys.exit("a target is missed")


def sizes(contents: Iterable[bytes]) -> tuple[int, int]:
    """Bytes of the contents as they are, and gzipped."""
    both = [(len(content), len(gzip.compress(content, GZIP_LEVEL))) for content in contents]
    return sum(own for own, _ in both), sum(sent for _, sent in both)


def painted_ms(browser: Browser, url: str) -> float:
    """Milliseconds from navigation until the forecast is painted."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    page.locator("#forecast-body .lede").wait_for()
    found = None
    while found is None:
        page.wait_for_timeout(50)
        found = page.evaluate("performance.getEntriesByName('forecast-painted')[0]?.startTime")
    context.close()
    return float(found)


if __name__ == "__main__":
    main()
