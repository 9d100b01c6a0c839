"""Models on the page: trained, watched, cancelled, chosen, compared and backtested."""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import NoReturn

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from benchmarks.server import post
from config import Settings
from models.fitting import FitProgress, OnProgress
from services.analysis.page.charts import FIGURES
from services.jobs.executor import Submit
from services.jobs.heartbeat import JobStopped
from services.training.train import OnPhase, train_model
from tests.browser.conftest import Open, eventually, scroll_to, wait_until_loaded
from tests.fakes import InlineExecutor, application
from tests.serving import served

pytestmark = pytest.mark.slow

EPOCHS = 1000
WITHIN_MS = 120_000


class InThreads(InlineExecutor):
    """Trains in another thread of this process."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(app)
        self._threads = ThreadPoolExecutor(1)

    @contextmanager
    def slot(self) -> Iterator[Submit]:
        yield lambda job_id: self._threads.submit(self._run, job_id).add_done_callback(Future.result)

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture(scope="module")
def training_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that trains in this process, for tests that would learn nothing from a worker."""
    app = application(Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("here"), price_source="sample"))
    app.state.runtime.executor = InThreads(app)
    with served(app) as url:
        yield url


@pytest.fixture
def endless_fit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lets a training do nothing but report an epoch every five seconds, until it is cancelled."""
    over = Event()

    def fit(*_: object, on_phase: OnPhase, on_progress: OnProgress, **__: object) -> NoReturn:
        on_phase("fit", 0.0)
        passes = 0.0
        while not over.wait(0.05):
            passes += 0.01
            on_progress(FitProgress(passes, EPOCHS, seconds_left=600))
        raise JobStopped

    monkeypatch.setattr("services.training.work.train_model", fit)
    monkeypatch.setattr("services.jobs.heartbeat.BEAT_S", 0.2)
    yield
    over.set()


def train(page: Page, fields: dict[str, str]) -> None:
    form = page.locator("#train-form")
    expect(page.locator("#compare-body table")).to_be_visible()
    for label, value in fields.items():
        form.get_by_label(label).fill(value)
    form.get_by_label("Start from the bundled").uncheck()
    form.get_by_role("button", name="Train").click()


def share(page: Page) -> float:
    """The position of the progress bar; −1 while unknown, 2 when it is gone."""
    value: float = page.evaluate("document.querySelector('#train-body progress')?.position ?? 2")
    return value


def test_a_training_is_watched_and_its_model_then_used(training_here: str, visit: Open) -> None:
    page = visit(training_here)
    # limited by epochs, whose speed depends on the machine
    train(page, {"First session": "2016-01-01", "Epochs": "3", "Lookback": "20", "Seconds": "600"})

    expect(page.locator('.job[data-state="succeeded"]')).to_be_visible(timeout=WITHIN_MS)

    chosen = page.locator("#model select[name=model]").input_value()
    assert re.fullmatch(r"gspc-\d{8}-[0-9a-f]{8}", chosen)
    expect(page.locator("#forecast-body")).to_contain_text(f"model {chosen}")
    expect(page.locator("#model-body")).to_contain_text(chosen)
    expect(page.locator("#compare-body tr.current th")).to_have_text(chosen)
    outcome = page.locator(".job").inner_text()
    assert re.search(
        r"In [\d,]+ tests on days it had never seen, the model was off by [\d.]+% on average; "
        r"assuming no change, by [\d.]+%",
        outcome,
    )
    assert re.search(r"Its 80% range contained the close in [\d.]+% of them\.", outcome)
    # a line of equal losses has no height and does not count as visible
    assert len((page.locator(".job svg polyline").get_attribute("points") or "").split()) >= 2
    assert f"model={chosen}" in page.url


@pytest.mark.usefixtures("endless_fit", "without_analysis")
def test_a_training_progresses_is_cancelled_retried_and_found_after_a_reload(training_here: str, visit: Open) -> None:
    page = visit(training_here)
    train(page, {"Epochs": str(EPOCHS)})
    eventually(page, lambda: 0 < share(page) < 1)
    seen = share(page)
    eventually(page, lambda: seen < share(page) < 1)

    page.get_by_role("button", name="Cancel").hover()
    page.mouse.down()
    seen = share(page)
    eventually(page, lambda: seen < share(page) < 1)  # the page is updated between press and release
    page.mouse.up()
    expect(page.locator('.job[data-state="cancelled"]')).to_be_visible()
    page.get_by_role("button", name="Train again").click()
    expect(page.locator('.job[data-state="running"]')).to_be_visible()
    page.reload()

    expect(page.locator('.job[data-state="running"]')).to_be_visible()
    expect(page.locator(".phases [aria-current]")).to_have_text("Fitting")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator('.job[data-state="cancelled"]')).to_be_visible()


def test_what_is_wrong_is_said_at_the_field_before_a_job_is_made(server: str, visit: Open) -> None:
    page = visit(server)
    form = page.locator("#train-form")
    submitted: list[str] = []
    page.on("request", lambda request: submitted.append(request.url))
    train(page, {"Epochs": "0", "Name": "My Model"})
    expect(form.locator(".wrong")).to_have_count(2)
    assert form.get_by_label("Name").get_attribute("aria-describedby") == "wrong-name"

    for label, value in {"Epochs": "1", "Name": "my-model", "Tickers": "NOPE"}.items():
        form.get_by_label(label).fill(value)
    form.get_by_role("button", name="Train").click()

    expect(form.locator(".wrong")).to_have_text("The sample prices have ^GSPC, ^IXIC, not NOPE.")
    assert form.get_by_label("Tickers").get_attribute("aria-invalid") == ""
    assert [url for url in submitted if url.endswith("/models/train")] == []


def test_a_model_is_given_a_name_and_found_by_it(
    training_here: str, visit: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Event()

    def fit(*given: object, **more: object) -> object:
        assert begin.wait(WITHIN_MS / 1000)
        return train_model(*given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("services.training.work.train_model", fit)
    page = visit(training_here)
    expect(page.locator("#compare-body table")).to_be_visible()
    form = page.locator("#train-form")
    form.get_by_label("Kind").select_option("ewma")
    train(page, {"First session": "2016-01-01", "Tickers": "nasdaq", "Name": "calm"})

    expect(form.get_by_role("button")).to_be_disabled()
    begin.set()
    expect(page.locator('.job[data-state="succeeded"]')).to_be_visible(timeout=WITHIN_MS)

    expect(form.get_by_role("button")).to_be_enabled()
    expect(page.locator("#model select[name=model]")).to_have_value("calm")
    expect(page.locator("#compare-body table", has_text="Names")).to_contain_text("calm")
    assert "model=calm" in page.url


def test_a_model_of_the_comparison_is_used_at_a_click(training_here: str, visit: Open) -> None:
    request = {"ticker": "^IXIC", "model": "ewma", "start_date": "2016-01-01"}
    trained = post(f"{training_here}/models/train", request)["result"]["id"]
    page = visit(training_here)

    page.locator("#compare-body").get_by_role("button", name=trained).click()

    expect(page.locator("#forecast-body")).to_contain_text(f"model {trained}")
    expect(page.locator("#forecast-body .note")).to_contain_text("^IXIC")
    expect(page.locator("#model-body")).to_contain_text("ewma")


def test_a_model_of_another_price_names_it(training_here: str, visit: Open) -> None:
    opens = {"ticker": "^IXIC", "model": "persistence", "target_column": "Open", "start_date": "2016-01-01"}
    trained = post(f"{training_here}/models/train", opens)["result"]["id"]
    page = visit(f"{training_here}/?model={trained}")

    expect(page.locator("#compare-body tr.current td").first).to_have_text("persistence of Open")
    expect(page.locator("#model-body")).to_contain_text("persistence of Open")


@pytest.mark.usefixtures("without_analysis")
def test_a_backtest_shows_coverage_by_step_and_every_baseline(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    form = page.locator("#backtest-form")
    form.get_by_label("From").fill("2018-06-01")

    form.get_by_role("button").click()

    body = page.locator("#backtest-body")
    baselines = body.locator("table").first
    expect(baselines.locator("tbody tr")).to_have_count(8, timeout=WITHIN_MS)
    names = baselines.locator("tbody th").all_inner_texts()
    assert names[0].startswith("return_lstm (bundled-")
    assert set(names[1:]) >= {"persistence", "gjr_garch", "volatility_regression", "rolling_empirical"}
    assert body.locator(".nominal").count() == 2
    assert body.locator(".empirical text").all_text_contents() == ["80%", "95%"]
    assert "assuming no change, by" in body.locator(".second").inner_text()
    body.get_by_text("Every step in figures").click()
    steps = body.locator("table").last
    assert steps.locator("tbody th").all_inner_texts() == ["1", "2", "3", "4", "5"]
    assert steps.locator("thead th").all_inner_texts()[2:4] == ["Error", "No change"]


@pytest.mark.usefixtures("without_analysis")
def test_a_long_backtest_has_a_bar_and_can_be_cancelled(server: str, visit: Open) -> None:
    page = visit(server)
    wait_until_loaded(page)
    form, body = page.locator("#backtest-form"), page.locator("#backtest-body")
    form.get_by_label("From").fill("2001-01-02")
    form.get_by_role("button").click()
    expect(body.get_by_role("progressbar")).to_be_visible(timeout=WITHIN_MS)

    body.get_by_role("button", name="Cancel").click()

    expect(body).to_contain_text("was cancelled", timeout=WITHIN_MS)
    expect(form.get_by_role("button")).to_be_enabled()


def test_the_analysis_loads_when_it_comes_into_view(server: str, visit: Open) -> None:
    body = scroll_to(visit(f"{server}/?ticker=^IXIC"), "analysis")

    expect(body).to_contain_text("Deepest drawdown")
    assert body.get_by_role("img").count() == len(FIGURES)
    label = body.locator("#acf-squares svg").get_attribute("aria-label") or ""
    assert label.startswith("Autocorrelation of squared log returns")
    tables = " ".join(body.locator("caption b").all_inner_texts())
    assert all(name in tables for name in ("Tails", "Drawdowns", "Ljung–Box", "Unit roots"))
    expect(body).to_contain_text("No close looks like an unadjusted split")
    line = body.locator("#volatility svg path[stroke='var(--blue)']").first
    assert line.evaluate("node => getComputedStyle(node).stroke") == "rgb(37, 99, 168)"  # the page's own blue


def test_on_a_telephone_the_analysis_has_a_page_of_its_own(server: str, visit: Open) -> None:
    page = visit(f"{server}/?ticker=^IXIC", viewport={"width": 390, "height": 844})

    scroll_to(page, "analysis").get_by_role("link", name="Open the analysis of ^IXIC").click()

    expect(page.locator("#analysis-body")).to_contain_text("Deepest drawdown")
    assert page.locator("#forecast").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.usefixtures("without_analysis")
def test_a_server_without_analysis_says_so(app: FastAPI, visit: Open) -> None:
    with served(app) as url:
        expect(scroll_to(visit(url), "analysis")).to_have_text("The analysis is not installed on this server.")
