"""What became of forecasts, who stands for what, and the report that is read from a disk."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect

from benchmarks.server import post
from config import Settings
from schemas.analysis import AnalysisRequest
from services.analysis.page.charts import FIGURES
from services.analysis.report import analysis_page
from services.prices.csv import CsvSource
from services.prices.sample import SampleSource
from services.prices.series import PriceSource
from tests.browser.conftest import NARROW, Open, served
from tests.fakes import application

pytestmark = pytest.mark.slow

REFERENCE = Path(__file__).parents[3] / "shared" / "data"
EVENINGS = [datetime(2018, 12, day, 23, tzinfo=UTC) for day in (18, 19, 20)]
YEARS_END = datetime(2018, 12, 31, 23, tzinfo=UTC)


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[str]:
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


def seen(page: Page, part: str) -> None:
    page.locator(f"#{part}").scroll_into_view_if_needed()
    expect(page.locator(f"#{part}-body > *").first).to_be_visible()
    expect(page.locator(f"#{part}-body .busy")).to_have_count(0)


def test_realised_errors_stand_beside_doing_nothing_once_they_are_scored(lived: str, visit: Open) -> None:
    page = visit(lived)
    body = page.locator("#accuracy-body")
    seen(page, "accuracy")
    expect(body).to_contain_text("No ^GSPC forecasts have been scored since 2 Oct 2018")

    body.get_by_role("button", name="Score past forecasts").click()

    rows = body.locator("tbody tr")
    expect(rows).to_have_count(2)
    heads = body.locator("thead th").all_inner_texts()
    cells = dict(zip(heads, rows.first.locator("th, td").all_inner_texts(), strict=True))
    assert (cells["Step"], cells["Forecasts"]) == ("1", "3")
    assert re.fullmatch(r"\d\.\d{2,4}%", cells["Its error"])
    assert re.fullmatch(r"\d\.\d{2,4}%", cells["No change"])
    assert re.fullmatch(r"[\d.]+%", cells["In 80% range"])


def test_whether_the_model_still_fits_is_said(lived: str, visit: Open) -> None:
    page = visit(lived)
    seen(page, "accuracy")

    body = page.locator("#accuracy-body")
    status = r"bundled-20181231-00000001: (no drift|possible drift; .+|drift, retrain it; .+)\."
    by_prices = " Judged by recent prices: there are no forecast results to check yet."
    expect(body.locator("p").first).to_have_text(re.compile(f"^{status}{re.escape(by_prices)}$"))

    body.get_by_role("button", name="Score past forecasts").click()
    expect(body.locator("table")).to_be_visible()

    expect(body.locator("p").first).to_have_text(re.compile(f"^{status}$"))
    assert body.locator("caption").inner_text() == "Forecasts of ^GSPC scored since 2 Oct 2018"
    assert "CRPS below no change" in body.locator("thead th").all_inner_texts()


def test_a_ticker_that_cannot_be_judged_is_told_with_the_reason(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=NOPE")
    seen(page, "accuracy")

    expect(page.locator("#accuracy-body .note")).to_contain_text("NOPE was not judged: ")


def test_another_ticker_has_a_record_of_its_own(lived: str, visit: Open) -> None:
    post(f"{lived}/monitoring/score", {})
    page = visit(lived)
    seen(page, "accuracy")
    expect(page.locator("#accuracy-body tbody tr")).to_have_count(2)

    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.get_by_role("button", name="Forecast", exact=True).click()
    expect(page.locator("#forecast-title")).to_have_text("^IXIC")
    seen(page, "analysis")  # it is above, and moves what is below when it arrives
    page.locator("#accuracy").scroll_into_view_if_needed()

    expect(page.locator("#accuracy-body")).to_contain_text("No ^IXIC forecasts")


def test_the_default_is_moved_and_moved_back(app: FastAPI, visit: Open) -> None:
    with served(app) as url:
        trained = post(f"{url}/models/train", {"ticker": "^GSPC", "model": "persistence"})["result"]["id"]
        page = visit(f"{url}/?model={trained}", viewport=NARROW)
        body = page.locator("#compare-body")
        expect(body.locator("table").first).to_be_visible()  # the page has filled in what it knows
        page.locator("#train-form").get_by_label("Tickers").fill("AAPL MSFT")
        page.evaluate("document.querySelector('#backtest-body').append('a backtest')")

        body.get_by_role("button", name=f"Make {trained} the default model").click()
        row = body.locator("table", has_text="Aliases").locator("tbody tr")
        expect(row.locator("td").first).to_have_text(trained)
        expect(body.get_by_role("button", name="bundled-", exact=False).first).to_be_visible()
        assert "bundled-20181231-00000001" in page.locator("#ask select[name=model]").inner_text()
        moved = row.locator("th, td").all_inner_texts()
        row.get_by_role("button", name=re.compile("back to bundled-")).click()

        expect(row.locator("td").first).to_contain_text("bundled-")
        assert (moved[0], moved[3]) == ("default", "hand")
        assert page.locator("#train-form").get_by_label("Tickers").input_value() == "AAPL MSFT"
        assert page.locator("#backtest-body").inner_text() == "a backtest"
        assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
        expect(row.get_by_role("button")).to_have_text(f"back to {trained}")


def test_a_move_that_cannot_be_says_why_and_can_be_tried_again(app: FastAPI, visit: Open) -> None:
    with served(app) as url:
        trained = post(f"{url}/models/train", {"ticker": "^GSPC", "model": "persistence"})["result"]["id"]
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
        pytest.skip(f"no reference prices of {ticker} in a folder shared/data beside the repository")
    return CsvSource(REFERENCE)


@pytest.mark.parametrize("ticker", ["^GSPC", "PETR4.SA"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_report_opens_from_disk_without_a_network(
    chromium: Browser, tmp_path: Path, ticker: str, width: int
) -> None:
    report = tmp_path / "report.html"
    written = analysis_page(ticker, AnalysisRequest(), history_of(ticker), datetime(2025, 1, 1, tzinfo=UTC))
    report.write_text(written, encoding="utf-8")
    context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))

    page.goto(report.as_uri())

    assert ticker in page.locator("h1").inner_text()
    drawn = [box for box in (svg.bounding_box() for svg in page.locator("figure > svg").all()) if box is not None]
    assert [box["width"] > 200 and box["height"] > 50 for box in drawn] == [True] * len(FIGURES)
    assert all(svg.locator("path").count() > 3 for svg in page.locator("figure > svg").all())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert asked == [report.as_uri()]
    assert complaints == []
    context.close()
