"""What a reader is told when something fails, and how it goes on afterwards."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Locator, Route, expect

from config import Settings
from services.analysis.page.charts import FIGURES
from services.prices.cache import CachedSource
from services.prices.series import PriceHistory
from services.prices.yahoo import YahooSource
from services.storage.store import LocalArtifactStore
from tests.browser.conftest import Open, eventually, served
from tests.fakes import application, new_york_sessions, random_walk, use_prices
from tests.yahoo_server import Quotes, Reply, YahooServer, running_yahoo

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery-staple"


@pytest.fixture
def yahoo() -> Iterator[YahooServer]:
    with running_yahoo() as server:
        yield server


@pytest.fixture
def live(app: FastAPI, yahoo: YahooServer, tmp_path: Path) -> FastAPI:
    """The application on prices of the real client, which asks the Yahoo of this test."""
    fetcher = YahooSource(tmp_path / "yfinance", timeout_s=5, attempts=1, session=yahoo.session(), backoff_s=0.01)
    use_prices(app, CachedSource(fetcher, LocalArtifactStore(tmp_path), ttl_s=0))
    return app


class BrokenPrices:
    """A price source with a mistake in it."""

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        raise RuntimeError("the secret is hunter2")


def problem(page: Locator) -> str:
    shown = page.locator(".problem").first
    expect(shown).to_be_visible()
    return shown.inner_text()


def quotes(n_sessions: int) -> Quotes:
    sessions = [day.astype(object) for day in new_york_sessions(n_sessions)]
    return Quotes(sessions, [float(close) for close in random_walk(n_sessions)[:, 3]])


def test_an_unknown_ticker_is_told_with_how_to_write_it(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=NOPE")

    told = problem(page.locator("#forecast-body"))

    assert told.startswith("Ticker not found")
    assert "PETR4.SA for São Paulo" in told
    assert page.locator("h1").inner_text() == "NOPE"


def test_a_ticker_that_cannot_be_one_is_told(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=<script>alert(1)</script>")

    assert "a ticker has up to 23 letters" in problem(page.locator("#forecast-body"))


def test_a_rate_limit_is_waited_for_and_then_over(live: FastAPI, yahoo: YahooServer, visit: Open) -> None:
    yahoo.quotes["AAPL"] = quotes(400)
    yahoo.always = Reply(429, headers={"Retry-After": "6"})
    with served(live) as url:
        page = visit(f"{url}/?ticker=AAPL")
        told = problem(page.locator("#forecast-body"))
        again = page.locator("#forecast-body").get_by_role("button", name="Try again")
        waited = again.is_disabled()

        yahoo.always = None
        again.click()

        expect(page.locator(".lede")).to_be_visible()
    assert waited
    assert "Try again in 6 s" in told


def test_a_yahoo_that_is_down_is_told(live: FastAPI, yahoo: YahooServer, visit: Open) -> None:
    yahoo.always = Reply(500)
    with served(live) as url:
        page = visit(f"{url}/?ticker=AAPL")

        told = problem(page.locator("#forecast-body"))

    assert told.startswith("Prices unreachable")
    assert "Check the internet connection." in told


def test_too_short_a_history_is_told_with_both_numbers(live: FastAPI, yahoo: YahooServer, visit: Open) -> None:
    yahoo.quotes["NEW"] = quotes(40)
    with served(live) as url:
        page = visit(f"{url}/?ticker=NEW")

        told = problem(page.locator("#forecast-body"))

    assert told.startswith("Insufficient history")
    assert "found " in told


def test_a_failure_of_ours_is_told_with_the_id_that_finds_it(app: FastAPI, visit: Open) -> None:
    use_prices(app, BrokenPrices())
    with served(app) as url:
        page = visit(url)

        told = problem(page.locator("#forecast-body"))

    assert "Internal error" in told
    assert "hunter2" not in told
    assert len(told.split("Request ")[1].split()[0]) == 32


def test_a_server_that_stopped_is_told_and_what_was_shown_comes_back(app: FastAPI, visit: Open) -> None:
    with served(app) as url:
        page = visit(url)
        expect(page.locator(".lede")).to_be_visible()

    page.get_by_role("button", name="Forecast", exact=True).click()

    assert problem(page.locator("#forecast-body")).startswith("The server cannot be reached")


def test_the_api_key_is_asked_for_kept_in_the_tab_and_sent(tmp_path: Path, visit: Open) -> None:
    locked = application(Settings.model_validate({"data_dir": tmp_path, "price_source": "sample", "api_key": KEY}))
    with served(locked) as url:
        page = visit(url)
        assert "This server wants an API key" in problem(page.locator("#forecast-body"))

        page.locator("#forecast-body input").fill("a wrong key that is long enough")
        page.locator("#forecast-body").get_by_role("button", name="Use it").click()
        expect(page.locator("#forecast-body h3")).to_have_text("That API key is not the right one")
        page.locator("#forecast-body input").fill(KEY)
        page.locator("#forecast-body").get_by_role("button", name="Use it").click()

        expect(page.locator(".lede")).to_be_visible()
        expect(page.locator("#compare-body table")).to_be_visible()
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]


def test_the_report_is_shown_and_kept_behind_an_api_key(tmp_path: Path, visit: Open) -> None:
    locked = application(Settings.model_validate({"data_dir": tmp_path, "price_source": "sample", "api_key": KEY}))
    with served(locked) as url:
        page = visit(url)
        page.locator("#forecast-body input").fill(KEY)
        page.locator("#forecast-body").get_by_role("button", name="Use it").click()
        expect(page.locator(".lede")).to_be_visible()
        page.locator("#analysis").scroll_into_view_if_needed()

        with page.expect_download() as kept:
            page.get_by_role("link", name="Save this report").click()

        assert page.locator("#analysis-body figure svg").count() == len(FIGURES)
        assert kept.value.suggested_filename.endswith(".html")
        assert kept.value.path().read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_refusal_from_before_the_key_was_given_does_not_forget_it(tmp_path: Path, visit: Open) -> None:
    locked = application(Settings.model_validate({"data_dir": tmp_path, "price_source": "sample", "api_key": KEY}))
    with served(locked) as url:
        page = visit(url)
        assert "This server wants an API key" in problem(page.locator("#model-body"))
        held: list[Route] = []
        page.route("**/models/default", lambda route: held.append(route))  # noqa: PLW0108  it must be a function
        page.evaluate("document.dispatchEvent(new Event('anew'))")
        eventually(page, lambda: len(held) == 1)

        page.locator("#forecast-body input").fill(KEY)
        page.locator("#forecast-body").get_by_role("button", name="Use it").click()
        eventually(page, lambda: len(held) == 2)
        for route in held:
            route.continue_()

        expect(page.locator("#model-body")).to_contain_text("bundled-")
        assert page.evaluate("sessionStorage.getItem('api-key')") == KEY
