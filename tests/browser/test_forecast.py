"""The forecast on the page: the fan, the sentence, and every figure with the no-change forecast."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from benchmarks.server import post
from routers import web
from services.prices.sample import SampleSource
from tests.browser.conftest import Open, eventually, wait_until_loaded
from tests.fakes import FakePriceSource, use_prices
from tests.serving import served

pytestmark = pytest.mark.slow

TINTED = """() => [...document.querySelectorAll('.chart canvas')].reduce((sum, canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) sum += data[i + 3] > 0 && data[i + 1] > data[i] + 12;
  return sum;
}, 0)"""  # candles, volume and text are grey, fan and median green
SCROLLING = "getComputedStyle(document.documentElement).scrollBehavior"


def test_the_fan_appears_without_internet(front_page: Page) -> None:
    eventually(front_page, lambda: front_page.evaluate(TINTED) > 5000)
    assert front_page.locator("h1").inner_text() == "S&P 500 ^GSPC · US index · USD"


def test_the_chart_is_described_in_words(front_page: Page) -> None:
    assert "95% between" in (front_page.get_by_role("img").first.get_attribute("aria-label") or "")


def test_the_sentence_states_price_range_and_no_change(server: str, front_page: Page) -> None:
    answer = post(f"{server}/predict/forecast", {"symbol": "^GSPC", "levels": [0.8]})

    lede = front_page.locator(".lede").inner_text()

    first = answer["forecast"][0]
    shown = [first["predicted_price"], first["intervals"][0]["lower"], first["intervals"][0]["upper"]]
    assert re.findall(r"\$([\d,]+\.\d\d)", lede) == [f"{price:,.2f}" for price in [*shown, answer["persistence"]]]
    assert lede.startswith("Forecast for Wed, 2 Jan 2019: US$")


def test_the_width_is_explained_in_a_sentence(server: str, front_page: Page) -> None:
    answer = post(f"{server}/predict/forecast", {"symbol": "^GSPC"})

    shown = front_page.locator("#forecast-body .second").first.inner_text()

    assert shown == answer["explanation"]["sentence"]
    assert re.match(r"The expected daily move is \d\.\d\d%, ", shown)


def test_the_page_explains_a_width_as_the_server_does(server: str, front_page: Page) -> None:
    for ticker in ("^GSPC", "^IXIC"):
        forecast = post(f"{server}/predict/forecast", {"symbol": ticker})

        said = front_page.evaluate(
            """async ([explanation, inputs, symbol]) =>
              (await import("/static/forecast.js")).widthSentence(explanation, inputs, symbol)""",
            [forecast["explanation"], forecast["inputs"], ticker],
        )

        assert said == forecast["explanation"]["sentence"]


def test_the_last_session_is_stated_too(server: str, front_page: Page) -> None:
    last = post(f"{server}/predict/forecast", {"symbol": "^GSPC", "days": 10, "levels": [0.8]})["forecast"][-1]

    said = front_page.locator("#forecast-body .second").nth(1).inner_text()

    prices = [last["predicted_price"], last["intervals"][0]["lower"], last["intervals"][0]["upper"]]
    assert said.startswith("In 10 sessions, on 15 Jan 2019: US$")
    assert re.findall(r"\$([\d,]+\.\d\d)", said) == [f"{price:,.2f}" for price in prices]


def test_every_model_is_compared_with_no_change(front_page: Page) -> None:
    models = front_page.locator("#compare-body table").first  # the second has the names, where there are any

    assert models.locator("thead th").all_inner_texts()[5:7] == ["Error", "No change"]
    bundled = models.locator("tr", has_text="bundled-").locator("td").all_inner_texts()
    assert bundled[4:6] == ["1.54%", "1.55%"]
    assert models.locator("thead th").all_inner_texts()[8:] == ["In 80% range", "In 95% range"]
    assert re.fullmatch(r"8\d\.\d%", bundled[7])


@pytest.mark.parametrize("days", [1, 10])
def test_the_evidence_is_of_the_horizon_asked_for(server: str, visit: Open, days: int) -> None:
    test = post(f"{server}/predict/forecast", {"symbol": "^GSPC", "days": days, "levels": [0.8]})["test"]

    page = visit(f"{server}/?days={days}")
    wait_until_loaded(page, "forecast")

    model = "the model" if days == 1 else f"the model’s {days}-day forecast"
    errors = r"was off by (\d\.\d{2,4})% on average; assuming no change, by (\d\.\d{2,4})%\."
    share = f"{100 * test['coverage'][0]['empirical_coverage']:.1f}%"
    inside = re.escape(f"Its 80% range contained the close in {share} of them.")
    evidence = page.locator("#forecast-body .second").last.inner_text()
    found = re.fullmatch(
        f"In {test['n_origins']:,} tests on days it had never seen, {model} {errors} {inside}", evidence
    )
    assert found, evidence
    expected = [100 * test[name]["mape"] for name in ("model", "persistence")]
    assert [float(one) for one in found.groups()] == pytest.approx(expected, abs=0.005)


def test_sample_prices_are_called_demo_data_and_old_prices_old(front_page: Page) -> None:
    assert front_page.locator("#forecast-body .warning").inner_text() == "Demo data, ends 31 Dec 2018"
    assert "newer ones are not available" in front_page.locator("#forecast-body .note").inner_text()


def test_sessions_without_open_high_and_low_are_drawn(app: FastAPI, visit: Open) -> None:
    known = SampleSource().history("^GSPC", datetime.now(UTC))
    bars = known.series.bars.copy()
    bars[-5:, :3] = np.nan
    use_prices(app, FakePriceSource(replace(known, series=replace(known.series, bars=bars))))
    with served(app) as url:
        page = visit(url)
        wait_until_loaded(page, "forecast")

        eventually(page, lambda: page.evaluate(TINTED) > 5000)


def test_the_table_has_ranges_and_no_change_of_every_session(server: str, visit: Open) -> None:
    page = visit(f"{server}/?days=20")
    wait_until_loaded(page, "forecast")

    page.get_by_text("All sessions in figures").click()

    rows = page.locator("#forecast-body tbody tr")
    assert rows.count() == 20
    assert all(len(re.findall(r"\d – \d", row)) == 3 and row.endswith("US$2,506.85") for row in rows.all_inner_texts())


def test_another_ticker_is_kept_in_the_address_and_back_returns(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)

    page.get_by_label("Ticker", exact=True).fill("^ixic")
    page.get_by_role("button", name="Forecast", exact=True).click()
    expect(page.locator("h1")).to_contain_text("^IXIC")
    address = page.url
    page.go_back()

    expect(page.locator("h1")).to_contain_text("^GSPC")
    assert address.endswith("?ticker=%5EIXIC")


def test_a_link_within_the_page_loads_nothing_and_keeps_the_form(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))

    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.get_by_role("navigation").get_by_role("link", name="Model", exact=True).click()
    page.get_by_role("navigation").get_by_role("link", name="Forecast").click()
    page.go_back()
    page.wait_for_timeout(300)

    assert [url for url in requested if url.endswith("/predict/forecast")] == []
    assert page.get_by_label("Ticker", exact=True).input_value() == "^IXIC"


def test_a_choice_changes_the_address_and_only_a_submitted_form_adds_a_history_entry(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    entries = page.evaluate("history.length")

    page.locator("#ask select[name=days]").select_option("20")
    expect(page.locator("#forecast-body tbody tr")).to_have_count(20)
    after_choice = page.evaluate("history.length")
    chosen = page.url
    page.get_by_label("Ticker", exact=True).fill("^IXIC")
    page.get_by_role("button", name="Forecast", exact=True).click()
    expect(page.locator("h1")).to_contain_text("^IXIC")

    assert chosen.endswith("?days=20")
    assert [after_choice, page.evaluate("history.length")] == [entries, entries + 1]


def test_prices_follow_the_locale(server: str, visit: Open) -> None:
    page = visit(server, locale="pt-BR")

    wait_until_loaded(page, "forecast")

    assert re.search(r"qua., 2 de jan. de 2019: US\$\s2\.5\d\d,\d\d ", page.locator(".lede").inner_text())


def test_the_chart_follows_the_colour_scheme(server: str, visit: Open) -> None:
    page = visit(server, color_scheme="light")
    wait_until_loaded(page, "forecast")
    light = page.locator(".chart").screenshot()

    page.emulate_media(color_scheme="dark")

    eventually(page, lambda: page.locator(".chart").screenshot() != light)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 20, 19)"
    eventually(page, lambda: page.evaluate(TINTED) > 5000)


def test_reduced_motion_is_respected(server: str, visit: Open) -> None:
    page = visit(server, reduced_motion="no-preference")
    smooth = page.evaluate(SCROLLING)

    page.emulate_media(reduced_motion="reduce")

    assert (smooth, page.evaluate(SCROLLING)) == ("smooth", "auto")
    assert page.evaluate("document.getAnimations().length") == 0
    page.evaluate("document.querySelector('main').append(document.createElement('progress'))")
    assert page.evaluate("getComputedStyle(document.querySelector('main > progress')).appearance") == "none"


def test_without_the_chart_library_the_figures_are_there(
    app: FastAPI, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "chart_library", lambda: None)

    with served(app) as url:
        page = visit(url)
        wait_until_loaded(page, "forecast")

        assert "The chart library is not installed" in page.locator("#forecast-body").inner_text()
        assert page.locator("#forecast-body tbody tr").first.is_visible()
        page.get_by_text("Share", exact=True).click()
        assert page.get_by_role("button", name="Numbers as CSV").is_visible()
