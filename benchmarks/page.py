"""What the page weighs, and how soon a visitor sees a forecast.

    python -m benchmarks.page [--visits 10]

Weight is that of the page's own files, uncompressed, without the chart library; beside it what travels, gzipped. Time
is from navigation to the frame after the first forecast is drawn, in Debian's Chromium (apt-get install chromium), on
the sample prices: of a server that has just started and imports what it needs, and of later visits, each by a browser
with empty caches.

Exits with 1 where the page is heavier than its bound, or the median of later visits slower.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.server import running_server
from routers import web

TARGET_BYTES = 60_000
TARGET_MS = 1_500


def main() -> None:
    """Weigh, visit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--visits", type=int, default=10)
    visits = parser.parse_args().visits
    own, travels = weight(list(web.FOLDER.iterdir()))
    print(f"{'the page itself':<32} {own:>9,} bytes (target below {TARGET_BYTES:,}), {travels:,} travel")
    library, travels = weight([path for path in [web.chart_library()] if path])
    print(f"{'the chart library':<32} {library:>9,} bytes, {travels:,} travel")
    with (
        tempfile.TemporaryDirectory() as data,
        running_server({"PRICE_SOURCE": "sample", "DATA_DIR": data}) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        first, *later = [painted_ms(browser, url) for _ in range(visits + 1)]
        browser.close()
    print(f"{'first visit to a fresh server':<32} {first:>9,.0f} ms")
    usual = statistics.median(later)
    slowest = f"slowest {max(later):,.0f} ms of {visits}"
    print(f"{'later visits, median':<32} {usual:>9,.0f} ms (target {TARGET_MS:,}), {slowest}")
    if own >= TARGET_BYTES or usual > TARGET_MS:
        sys.exit("a bound is broken")


def weight(paths: Sequence[Path]) -> tuple[int, int]:
    """Bytes of the files as they are, and as they travel."""
    contents = [path.read_bytes() for path in paths]
    return sum(map(len, contents)), sum(len(web.gzipped(content)) for content in contents)


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
