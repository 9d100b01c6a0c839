"""The accuracy of past forecasts, aliases, and the report opened from a disk."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from benchmarks.server import post
from config import Settings
from schemas.analysis import AnalysisRequest
from services.analysis.page.charts import FIGURES
from services.analysis.report import analysis_page
from services.prices.csv import CsvSource
from services.prices.sample import SampleSource
from services.prices.series import PriceSource
from tests.browser.conftest import NARROW, Open, scroll_to, wait_until_loaded
from tests.fakes import InlineExecutor, application
from tests.serving import served

pytestmark = pytest.mark.slow

REFERENCE = Path(__file__).parents[3] / "shared" / "data"
EVENINGS = [datetime(2018, 12, day, 23, tzinfo=UTC) for day in (18, 19, 20)]
YEARS_END = datetime(2018, 12, 31, 23, tzinfo=UTC)


@pytest.fixture
def lived(tmp_path: Path, without_analysis: None) -> Iterator[str]:
    """A service that forecast on three evenings, at the end of that year; nothing has been scored."""
    now = [EVENINGS[0]]
    settings = Settings.model_validate({"data_dir": tmp_path, "price_source": "sample"})
    app: FastAPI = application(settings, clock=lambda: now[0])
    with served(app) as url:
        for evening in EVENINGS:
            now[0] = evening
            post(f"{url}/predict/forecast", {"symbol": "^GSPC", "days": 2})
        now[0] = YEARS_END
        yield url


def test_past_forecasts_are_scored_and_shown_with_no_change_and_drift(lived: str, visit: Open) -> None:
    page = visit(lived)
    body = scroll_to(page, "accuracy")
    status = r"bundled-20210421-00000001: (no drift|possible drift|drift, retrain it)\.( Ranges of .+\.)*"
    from_prices = " From recent prices only: there are no forecast results to check yet."
    expect(body.locator("p").first).to_have_text(re.compile(f"^{status}{re.escape(from_prices)}$"))
    expect(body).to_contain_text("No ^GSPC forecasts have been scored since 2 Oct 2018")

    body.get_by_role("button", name="Score past forecasts").click()

    rows = body.locator("tbody tr")
    expect(rows).to_have_count(2)
    heads = body.locator("thead th").all_inner_texts()
    cells = dict(zip(heads, rows.first.locator("th, td").all_inner_texts(), strict=True))
    assert (cells["Step"], cells["Forecasts"]) == ("1", "3")
    assert re.fullmatch(r"\d\.\d{2,4}%", cells["Error"])
    assert re.fullmatch(r"\d\.\d{2,4}%", cells["No change"])
    assert re.fullmatch(r"[\d.]+%", cells["In 80% range"])
    assert "CRPS skill" in cells
    assert body.locator("caption").inner_text() == "Forecasts of ^GSPC scored since 2 Oct 2018"
    expect(body.locator("p").first).to_have_text(re.compile(rf"^{status}\s*$"))


@pytest.mark.usefixtures("without_analysis")
def test_where_nothing_is_scored_a_backtest_shows_the_last_sixty(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    body = scroll_to(page, "accuracy", "have been scored")

    body.get_by_role("button", name="the last 60").click()

    expect(page.locator("#past .second")).to_contain_text(
        re.compile(r"In the last 60 sessions, .+ inside, .+ outside\.")
    )
    expect(page.locator("#past .second")).to_be_in_viewport()


def test_an_unknown_ticker_says_why_its_drift_is_not_checked(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=NOPE")

    expect(scroll_to(page, "accuracy").locator(".note")).to_contain_text("Drift of NOPE not checked: ")


def test_another_ticker_has_its_own_accuracy(lived: str, visit: Open) -> None:
    post(f"{lived}/monitoring/score", {})
    page = visit(lived)
    expect(scroll_to(page, "accuracy").locator("tbody tr")).to_have_count(2)

    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.get_by_role("button", name="Forecast", exact=True).click()

    scroll_to(page, "accuracy", "No ^IXIC forecasts")


@pytest.fixture
def changing(app: FastAPI, without_analysis: None) -> Iterator[tuple[str, str]]:
    """The address of a server that a test may change, and the id of a model trained there."""
    app.state.runtime.executor = InlineExecutor(app)
    with served(app) as url:
        request = {"ticker": "^GSPC", "model": "persistence", "start_date": "2016-01-01"}
        yield url, post(f"{url}/models/train", request)["result"]["id"]


def test_the_default_is_moved_and_moved_back(changing: tuple[str, str], visit: Open) -> None:
    url, trained = changing
    page = visit(f"{url}/?model={trained}", viewport=NARROW)
    body = page.locator("#compare-body")
    expect(body.locator("table").first).to_be_visible()  # the page has filled in its forms
    page.locator("#train-form").get_by_label("Tickers").fill("AAPL MSFT")
    page.evaluate("document.querySelector('#backtest-body').append('a backtest')")

    body.get_by_role("button", name=f"Make {trained} the default model").click()
    row = body.locator("table", has_text="Names").locator("tbody tr")
    expect(row.locator("td").first).to_have_text(trained)
    expect(body.get_by_role("button", name="bundled-", exact=False).first).to_be_visible()
    assert "bundled-20210421-00000001" in page.locator("#model select[name=model]").inner_text()
    moved = row.locator("th, td").all_inner_texts()
    row.get_by_role("button", name=re.compile("back to bundled-")).click()

    expect(row.locator("td").first).to_contain_text("bundled-")
    assert (moved[0], moved[3]) == ("default", "hand")
    assert page.locator("#train-form").get_by_label("Tickers").input_value() == "AAPL MSFT"
    assert page.locator("#backtest-body").inner_text() == "a backtest"
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    expect(row.get_by_role("button")).to_have_text(f"back to {trained}")


def test_a_tickers_own_model_is_shown_and_used_unless_another_is_chosen(changing: tuple[str, str], visit: Open) -> None:
    url, trained = changing
    for alias in ("ticker%2F%5EGSPC", "mine"):
        requests.put(f"{url}/models/aliases/{alias}", json={"model_id": trained}, timeout=60).raise_for_status()

    page = visit(url)

    wait_until_loaded(page)
    expect(page.locator("#forecast-body")).to_contain_text(f"model {trained}")
    expect(page.locator("#model-body")).to_contain_text(trained)
    names = page.locator("#compare-body table", has_text="Names").locator("tbody th")
    assert names.all_inner_texts() == ["mine", "ticker/^GSPC"]
    page.locator("#compare-body table", has_text="Names").get_by_role("button").last.click()
    expect(page.locator("#model-body")).to_contain_text("bundled-")  # the alias of the ticker is moved back
    assert page.url == f"{url}/"
    page.locator("#model select[name=model]").select_option("mine")
    expect(page.locator("#forecast-body")).to_contain_text(f"model {trained}")


def test_a_failed_move_says_why_and_can_be_tried_again(changing: tuple[str, str], visit: Open) -> None:
    url, trained = changing
    page = visit(f"{url}/?model={trained}")
    button = page.get_by_role("button", name=f"Make {trained} the default model")
    expect(button).to_be_visible()
    page.request.delete(f"{url}/models/{trained}")

    button.click()

    expect(page.locator("#compare-body .problem")).to_contain_text(f"No model '{trained}'")
    expect(page.locator("#compare-body .problem").get_by_role("button", name="Try again")).to_be_visible()


def history_of(ticker: str) -> PriceSource:
    if ticker == "^GSPC":
        return SampleSource()
    if not (REFERENCE / f"{ticker}.csv").exists():
        pytest.skip(f"no reference prices of {ticker} in shared/data next to the repository")
    return CsvSource(REFERENCE)


@pytest.fixture(scope="module", params=["^GSPC", "PETR4.SA"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A ticker and its report as a file."""
    ticker: str = request.param
    path = tmp_path_factory.mktemp("report") / "report.html"
    written = analysis_page(ticker, AnalysisRequest(), history_of(ticker), datetime(2025, 1, 1, tzinfo=UTC))
    path.write_text(written, encoding="utf-8")
    return ticker, path


@pytest.mark.parametrize("width", [360, 1440])
def test_the_report_opens_from_disk_without_a_network(chromium: Browser, report: tuple[str, Path], width: int) -> None:
    ticker, path = report
    context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    requested: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))

    page.goto(path.as_uri())

    assert ticker in page.locator("h1").inner_text()
    drawn = [box for box in (svg.bounding_box() for svg in page.locator("figure > svg").all()) if box is not None]
    assert [box["width"] > 200 and box["height"] > 50 for box in drawn] == [True] * len(FIGURES)
    assert all(svg.locator("path").count() > 3 for svg in page.locator("figure > svg").all())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert requested == [path.as_uri()]
    assert complaints == []
    context.close()
