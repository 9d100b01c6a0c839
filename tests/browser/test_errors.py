"""What the page shows when something fails, and how it recovers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from playwright.sync_api import Locator, Page, Route, expect

from config import Settings
from services.access import new_key
from services.analysis.page.charts import FIGURES
from services.prices.cache import CachedSource
from services.prices.yahoo import YahooSource
from services.storage.store import LocalArtifactStore
from tests.browser.conftest import Open, eventually, scroll_to, wait_until_loaded
from tests.fakes import FailingPriceSource, application, new_york_sessions, random_walk, use_prices
from tests.serving import served
from tests.yahoo_server import Quotes, Reply, YahooServer

pytestmark = pytest.mark.slow

KEY = "correct-horse-battery-staple"


@pytest.fixture
def live(app: FastAPI, yahoo: YahooServer, tmp_path: Path) -> FastAPI:
    """The application with the real client, which requests prices from the Yahoo of this test."""
    fetcher = YahooSource(tmp_path / "yfinance", timeout_s=5, attempts=1, session=yahoo.session(), backoff_s=0.01)
    use_prices(app, CachedSource(fetcher, LocalArtifactStore(tmp_path), ttl_s=0))
    return app


def problem(page: Locator) -> str:
    shown = page.locator(".problem").first
    expect(shown).to_be_visible()
    return shown.inner_text()


def quotes(n_sessions: int) -> Quotes:
    sessions = [day.astype(object) for day in new_york_sessions(n_sessions)]
    return Quotes(sessions, [float(close) for close in random_walk(n_sessions)[:, 3]])


@pytest.mark.parametrize(
    ("ticker", "title", "advice"),
    [
        ("NOPE", "Ticker not found", "PETR4.SA for São Paulo"),
        ("<script>alert(1)</script>", "Malformed request", "a ticker has up to 23 letters"),
    ],
)
def test_an_unusable_ticker_is_an_alert_with_advice(
    server: str, visit: Open, ticker: str, title: str, advice: str
) -> None:
    page = visit(f"{server}/?ticker={ticker}")

    alert = page.get_by_role("alert").first
    expect(alert).to_contain_text(title)
    expect(alert).to_contain_text(advice)
    expect(page.locator("h1")).to_have_text(ticker.upper())


def test_a_rate_limit_disables_the_button_until_it_is_over(live: FastAPI, yahoo: YahooServer, visit: Open) -> None:
    yahoo.quotes["AAPL"] = quotes(400)
    yahoo.always = Reply(429, headers={"Retry-After": "6"})
    with served(live) as url:
        page = visit(f"{url}/?ticker=AAPL")
        text = problem(page.locator("#forecast-body"))
        again = page.locator("#forecast-body").get_by_role("button", name="Try again")
        waited = again.is_disabled()

        yahoo.always = None
        again.click()

        expect(page.locator(".lede")).to_be_visible()
    assert waited
    assert "Try again in 6 s" in text


def test_a_failing_yahoo_is_reported(live: FastAPI, yahoo: YahooServer, visit: Open) -> None:
    yahoo.always = Reply(500)
    with served(live) as url:
        page = visit(f"{url}/?ticker=AAPL")

        text = problem(page.locator("#forecast-body"))

    assert text.startswith("Prices unreachable")
    assert "Check the internet connection." in text


def test_too_short_a_history_is_reported_with_its_length(live: FastAPI, yahoo: YahooServer, visit: Open) -> None:
    yahoo.quotes["NEW"] = quotes(40)
    with served(live) as url:
        page = visit(f"{url}/?ticker=NEW")

        text = problem(page.locator("#forecast-body"))

    assert text.startswith("Insufficient history")
    assert "found " in text


def test_an_internal_error_shows_its_request_id_and_no_detail(app: FastAPI, visit: Open) -> None:
    use_prices(app, FailingPriceSource(RuntimeError("the secret is hunter2")))
    with served(app) as url:
        page = visit(url)

        text = problem(page.locator("#forecast-body"))

    assert "Internal error" in text
    assert "hunter2" not in text
    assert len(text.split("Request ")[1].split()[0]) == 32


def test_a_stopped_server_is_reported(app: FastAPI, visit: Open) -> None:
    with served(app) as url:
        page = visit(url)
        expect(page.locator(".lede")).to_be_visible()

    page.get_by_role("button", name="Forecast", exact=True).click()

    assert problem(page.locator("#forecast-body")).startswith("The server cannot be reached")


def documenting_models(app: FastAPI) -> FastAPI:
    """The application; its API page has one route, without the schema of its answer: all take seconds to draw."""
    complete = app.openapi

    def openapi() -> dict[str, Any]:
        document = complete()
        operation = {**document["paths"]["/models"]["get"], "responses": {"200": {"description": "The models."}}}
        security = {"securitySchemes": document["components"]["securitySchemes"]}
        return {**document, "paths": {"/models": {"get": operation}}, "components": security}

    app.openapi = openapi  # type: ignore[method-assign]  # as the application itself extends it
    return app


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[str]:
    """A server with an API key."""
    settings = Settings.model_validate({"data_dir": tmp_path, "price_source": "sample", "api_key": KEY})
    with served(documenting_models(application(settings))) as url:
        yield url


def give_key(page: Page, key: str, *, remember: bool = False) -> None:
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("API key").fill(key)
    if remember:
        dialog.get_by_role("checkbox").check()
    dialog.get_by_role("button", name="Use key").click()


def test_the_api_key_is_entered_once_for_every_part_and_kept_in_the_tab(locked: str, visit: Open) -> None:
    page = visit(locked)
    expect(page.get_by_role("dialog")).to_contain_text("This server needs an API key")

    give_key(page, "a wrong key that is long enough")
    expect(page.get_by_role("dialog")).to_contain_text("That API key is wrong")
    give_key(page, KEY)

    wait_until_loaded(page)
    expect(page.locator("#compare-body table")).to_be_visible()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate("[Object.keys(sessionStorage), Object.keys(localStorage), document.cookie]") == [
        ["api-key"],
        [],
        "",
    ]
    report = scroll_to(page, "analysis")
    assert report.locator("figure svg").count() == len(FIGURES)
    with page.expect_download() as saved:
        page.get_by_role("link", name="Save this report").click()
    assert saved.value.suggested_filename.endswith(".html")
    assert saved.value.path().read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def execute(page: Page) -> None:
    """Request the models in Swagger UI, and wait for an answer that needs the key."""
    operation = page.locator("#operations-models-models_models_get")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").last).to_contain_text("200")


@pytest.mark.usefixtures("without_analysis")
@pytest.mark.parametrize("remember", [False, True], ids=["for-the-tab", "remembered"])
def test_the_key_is_used_by_the_api_page_too_until_it_is_forgotten(locked: str, visit: Open, *, remember: bool) -> None:
    page = visit(locked)
    give_key(page, KEY, remember=remember)
    wait_until_loaded(page)

    page.goto(f"{locked}/docs")
    execute(page)
    kept = [*page.evaluate("[Object.keys(sessionStorage), Object.keys(localStorage)]"), page.url.count(KEY)]
    page.goto(locked)
    wait_until_loaded(page)
    page.get_by_role("button", name="Forget the API key").press("Enter")  # parts that load move it from under a click

    expect(page.get_by_role("dialog")).to_contain_text("This server needs an API key")
    assert kept == ([[], ["api-key"], 0] if remember else [["api-key"], [], 0])
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]
    page.goto(f"{locked}/docs")
    expect(page.locator(".authorize.unlocked")).to_be_visible()


@pytest.mark.usefixtures("without_analysis")
def test_without_a_key_each_part_says_so_and_asks_again_on_request(locked: str, visit: Open) -> None:
    page = visit(locked)
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    body = page.locator("#forecast-body")
    assert problem(body).startswith("Not authenticated")
    expect(page.locator("#model-body .problem")).to_be_visible()  # which does not ask again
    expect(page.get_by_role("dialog")).to_have_count(0)

    body.get_by_role("button", name="Try again").click()
    give_key(page, KEY)

    expect(page.locator(".lede")).to_be_visible()


@pytest.mark.usefixtures("without_analysis")
def test_a_late_refusal_does_not_forget_a_newer_key(locked: str, visit: Open) -> None:
    page = visit(locked)
    expect(page.get_by_role("dialog")).to_be_visible()
    waiting: list[Route] = []
    page.route("**/predict/forecast", lambda route: waiting.append(route))  # noqa: PLW0108  it must be a function
    page.evaluate("document.dispatchEvent(new Event('reload'))")
    eventually(page, lambda: len(waiting) == 1)

    give_key(page, KEY)
    waiting[0].continue_()
    eventually(page, lambda: len(waiting) == 2)
    waiting[1].continue_()

    expect(page.locator(".lede")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('api-key')") == KEY


READER, READS = new_key("reader", ["read"])
TRAINER, TRAINS = new_key("trainer", ["read", "train"])


@pytest.fixture
def with_rights(tmp_path: Path) -> Iterator[str]:
    """A server with a key that may read, and one that may also train."""
    keys = f"{READS.entry},{TRAINS.entry}"
    settings = Settings.model_validate({"data_dir": tmp_path, "price_source": "sample", "api_keys": keys})
    with served(documenting_models(application(settings))) as url:
        yield url


@pytest.mark.usefixtures("without_analysis")
def test_a_key_that_may_not_train_says_so_and_another_one_takes_its_place(with_rights: str, visit: Open) -> None:
    page = visit(with_rights)
    give_key(page, READER)
    wait_until_loaded(page)

    page.get_by_role("button", name="Train", exact=True).click()

    expect(page.get_by_role("dialog")).to_contain_text("This key may read but not train")
    assert page.evaluate("sessionStorage.getItem('api-key')") == READER
    give_key(page, TRAINER)
    job = page.locator("#train-body .job")
    expect(job).to_be_visible()
    job.get_by_role("button", name="Cancel").click()


@pytest.mark.usefixtures("without_analysis")
def test_swagger_sends_the_key_that_it_was_given(with_rights: str, visit: Open) -> None:
    page = visit(f"{with_rights}/docs")

    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".modal-ux input").fill(READER)
    page.locator(".modal-ux").get_by_role("button", name="Apply credentials").click()
    page.locator(".modal-ux").get_by_role("button", name="Close").click()

    execute(page)
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [0, 0]  # it was not to be remembered
