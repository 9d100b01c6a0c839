"""Plots and progress bars of answers that a server rarely gives: odd levels, missing prices, a running job."""

import io
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from cli.demo import sparkline
from cli.layout import THEME, console, price
from cli.plots import ACCENT, CANDLE, ORANGE, PAGE, draw_analysis, draw_backtest, draw_forecast
from cli.progress import PHASES, TrainingBar, description
from cli.tables import jobs_table, prices_table
from routers.answers import forecast_response
from schemas.backtest import BacktestRequest
from schemas.job import Phase
from services.backtest import backtest
from services.storage.registry import ModelRegistry
from services.training.train import TrainedModel
from stock_forecast_client.models import (
    Analysis,
    BacktestResponse,
    Bar,
    FetchDataResponse,
    ForecastResponse,
    Job,
    JobPage,
)
from tests.cli.conftest import rendered
from tests.client.conftest import job_body
from tests.fakes import FakePriceSource, InMemoryArtifactStore, forecasting, walk_history

NOW = datetime(2024, 7, 19, 22, tzinfo=UTC)


def running(epoch: int, max_epochs: int, model: str = "return_lstm", phase: str = "fit", fit: int = 1) -> Job:
    """A job after ``epoch`` epochs of one minute each."""
    progress = {
        "at": NOW,
        "phase": phase,
        "fit": fit,
        "epoch": epoch,
        "max_epochs": max_epochs,
        "validation_losses": [0.5] * epoch,
        "share": epoch / max_epochs,
        "estimated_end": NOW + timedelta(minutes=max_epochs - epoch) if epoch else None,
    }
    request = {"ticker": "WALK", "model": model}
    return Job.model_validate(job_body("running", request=request, progress=progress))


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_an_analysis_is_drawn_into_each_kind_of_file(
    analysis: Analysis, tmp_path: Path, suffix: str, start: bytes
) -> None:
    path = tmp_path / f"drawn{suffix}"

    draw_analysis(analysis, path)

    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("quantile_levels", [(0.5,), (0.1, 0.9), (0.05, 0.5, 0.95)])
def test_a_backtest_of_any_levels_is_drawn(
    trained: TrainedModel, tmp_path: Path, quantile_levels: tuple[float, ...]
) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    request = BacktestRequest(horizon=1, stride=5, quantile_levels=quantile_levels, include_forecasts=True)
    answer = backtest(trained.card.model_id, request, registry, FakePriceSource(walk_history()), NOW)

    draw_backtest(BacktestResponse.model_validate_json(answer.model_dump_json()), {}, tmp_path / "drawn.png")

    assert (tmp_path / "drawn.png").stat().st_size > 10_000


def test_a_bar_shows_epoch_loss_and_the_time_left() -> None:
    assert description(running(2, 8)) == "epoch 2 of up to 8, loss 0.5, at most 360 s left"


def test_a_bar_in_the_second_fit_says_so() -> None:
    words = "fitting once more with the newest prices"

    assert description(running(2, 8, fit=2)) == f"{words}, at most 360 s left"
    assert description(running(0, 8, fit=2)) == words


@pytest.mark.parametrize("phase", get_args(Phase))
@pytest.mark.parametrize("model", ["return_lstm", "ewma"])
def test_a_bar_shows_every_phase_in_words(phase: str, model: str) -> None:
    words = description(running(0, 8, model, phase))

    assert words == ("epoch 1 of up to 8" if (phase, model) == ("fit", "return_lstm") else PHASES[phase])
    assert re.fullmatch("[a-z ]{7,}", PHASES[phase])


def test_a_bar_shows_a_phase_of_a_newer_server_as_it_is() -> None:
    later = running(0, 8)
    assert later.progress is not None
    newer = later.model_copy(update={"progress": later.progress.model_copy(update={"phase": "polish"})})

    assert description(newer) == "polish"


def test_a_bar_before_the_first_report_shows_the_state() -> None:
    assert description(running(0, 8).model_copy(update={"progress": None})) == "starting"


def test_a_model_without_epochs_shows_none() -> None:
    page = console()

    with page.capture() as shown:
        page.print(jobs_table(JobPage(jobs=[running(0, 50, "ewma")], next_after=None)))

    assert description(running(0, 50, "ewma")) == "fitting"
    assert "of 50" not in shown.get()


def test_a_bar_is_drawn_in_a_terminal_and_nowhere_else() -> None:
    terminal, file = (
        Console(file=io.StringIO(), force_terminal=forced, width=100, theme=THEME) for forced in (True, False)
    )

    for place in (terminal, file):
        with TrainingBar(place) as bar:
            bar(running(0, 8))
            bar(running(4, 8))

    assert isinstance(terminal.file, io.StringIO)
    assert isinstance(file.file, io.StringIO)
    assert "epoch 4 of up to 8" in terminal.file.getvalue()
    assert "50%" in terminal.file.getvalue()
    assert file.file.getvalue() == ""


def test_plots_have_the_colours_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "web" / "style.css").read_text(encoding="utf-8").partition("@media")[0]

    assert [colour for colour in (PAGE, ACCENT, CANDLE, ORANGE) if colour not in page] == []


def test_a_line_of_blocks_rises_and_falls_with_its_values() -> None:
    assert sparkline([3.0, 1.0, 2.0, 3.0]) == "█▁▅█"


@pytest.mark.parametrize(
    ("value", "shown"), [(1234567.891, "1,234,567.89"), (0.000123456, "0.000123456"), (-2.5, "-2.50")]
)
def test_a_price_is_shown_with_the_digits_that_matter(value: float, shown: str) -> None:
    assert price(value) == shown


WITHOUT_RANGE = [
    Bar(Date=date(2024, 7, 15 + day), Open=None, High=None, Low=None, Close=100.0 + day, Volume=0.0) for day in range(4)
]


def test_sessions_without_open_high_and_low_are_drawn(tmp_path: Path, trained: TrainedModel) -> None:
    registry = ModelRegistry(InMemoryArtifactStore())
    registry.publish(trained.card, trained.files)
    prices = FakePriceSource(walk_history())
    forecast = forecasting(registry, prices).forecast_ticker(trained.card.model_id, "WALK", 3, (0.8,), NOW)

    drawn = ForecastResponse.model_validate_json(forecast_response(forecast).model_dump_json())
    draw_forecast(drawn, WITHOUT_RANGE, tmp_path / "forecast.svg")

    assert "svg" in (tmp_path / "forecast.svg").read_text(encoding="utf-8")


def test_an_unknown_price_is_a_dash_in_the_table() -> None:
    answer = FetchDataResponse(
        ticker="WALK",
        data=WITHOUT_RANGE[:1],
        currency="USD",
        source="csv",
        as_of=date(2024, 7, 15),
        stale=False,
        demo=False,
        dropped={},
        repaired={"open": 1},
    )

    assert rendered(prices_table(answer), 100).count("–") == 3
