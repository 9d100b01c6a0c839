"""What the page weighs, and how soon a visitor sees a forecast.

    python -m benchmarks.page [--visits 10]

Weight is that of the page's own files, uncompressed, without the chart library. Time is from navigation to the frame
after the first forecast is drawn, in Debian's Chromium (apt-get install chromium), on the sample prices: of a server
that has just started and imports what it needs, and of later visits, each by a browser with empty caches.
"""

import argparse
import shutil
import statistics
import tempfile

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
    own = sum(path.stat().st_size for path in web.FOLDER.iterdir())
    print(f"{'the page itself':<32} {own:>9,} bytes (target below {TARGET_BYTES:,})")
    library = web.chart_library()
    print(f"{'the chart library':<32} {library.stat().st_size if library else 0:>9,} bytes")
    with (
        tempfile.TemporaryDirectory() as data,
        running_server({"PRICE_SOURCE": "sample", "DATA_DIR": data}) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        first, *later = [painted_ms(browser, url) for _ in range(visits + 1)]
        browser.close()
    print(f"{'first visit to a fresh server':<32} {first:>9,.0f} ms")
    print(
        f"{'later visits, median':<32} {statistics.median(later):>9,.0f} ms (target {TARGET_MS:,}), "
        f"slowest {max(later):,.0f} ms of {visits}"
    )


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
