"""Take the pictures of the page for the documentation: a phone and a desktop, light and dark.

python -m tools.screenshots                    into docs/images
python -m tools.screenshots --into DIR

Needs Debian's Chromium (apt-get install chromium). The server is started here, on the sample prices.
"""

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from benchmarks.server import post, running_server

INTO = Path(__file__).parent.parent / "docs" / "images"
VIEWPORTS = {"360": (360, 740), "1440": (1440, 900)}
SCHEMES = ("light", "dark")
MODEL = {"ticker": "^GSPC", "start_date": "2010-01-01", "end_date": "2018-12-31", "epochs": 5}
LARGEST_BYTES = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=INTO, help="folder to write to")
    into: Path = parser.parse_args().into
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data, running_server({"PRICE_SOURCE": "sample", "DATA_DIR": data}) as url:
        post(f"{url}/models/train", MODEL)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for name, (width, height) in VIEWPORTS.items():
                for scheme in SCHEMES:
                    take(browser, url, into, f"{name}-{scheme}", {"width": width, "height": height}, scheme)
            browser.close()


def take(browser: Browser, url: str, into: Path, name: str, viewport: Mapping[str, int], scheme: str) -> None:
    """The top of the page, and the models further down."""
    context = browser.new_context(
        viewport={"width": viewport["width"], "height": viewport["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
        locale="en-GB",
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    expect(page.locator("#forecast-body .lede")).to_be_visible(timeout=30_000)
    expect(page.locator("#compare-body table")).to_be_visible(timeout=30_000)
    page.wait_for_timeout(500)  # the chart draws once more when it knows its size
    write(into / f"page-{name}.png", page.screenshot())
    page.evaluate("document.querySelector('#model').scrollIntoView()")
    page.wait_for_timeout(200)
    write(into / f"model-{name}.png", page.screenshot())
    context.close()


def write(path: Path, picture: bytes) -> None:
    if len(picture) > LARGEST_BYTES:
        raise ValueError(f"{path.name} has {len(picture)} bytes, more than {LARGEST_BYTES}")
    path.write_bytes(picture)
    print(f"{path.name:<24} {len(picture):>8,} bytes")


if __name__ == "__main__":
    main()
