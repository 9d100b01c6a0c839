"""The command that shows everything once, without a network: train, forecast, backtest, draw."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import typer

from cli.forecasting import BAND_LEVELS, plot_forecast
from cli.layout import console, price
from cli.options import Plot
from cli.output import echo, show
from cli.tables import backtest_table, forecast_table, trained_table
from cli.target import target_of
from cli.training import train_visibly
from config import Settings
from schemas.backtest import BacktestRequest
from schemas.predict import ForecastRequest, ForecastResponse
from schemas.train import TrainRequest

# small enough for half a minute on two cores
TRAINING = TrainRequest(ticker="^GSPC", start_date=date(2010, 1, 1), epochs=8, max_seconds=30)
FORECAST = ForecastRequest(horizon=10, levels=tuple(BAND_LEVELS))
BACKTEST = BacktestRequest(stride=5, horizon=5)
DRAWING = "demo.png"
N_CLOSES_SHOWN = 50
BLOCKS = "▁▂▃▄▅▆▇█"


def demo(context: typer.Context, plot: Plot = None) -> None:
    """Train, forecast and backtest a small model on sample prices, without a network, and draw the forecast."""
    target = target_of(context)
    target.validate_local("demo")
    with target.client(price_source="sample") as client:
        echo("1. train a small model on daily prices of ^GSPC, 2010 to 2018")
        job = train_visibly(client, TRAINING)
        assert job.result is not None  # noqa: S101 - a job without an error has one
        show(job.result, trained_table, as_json=False)
        echo("\n2. forecast ten sessions with it")
        answer = client.forecast(job.model_id, FORECAST)
        show(answer, forecast_table, as_json=False)
        echo("\n3. backtest it on its test block, beside persistence and others")
        show(client.backtest(job.model_id, BACKTEST), backtest_table, as_json=False)
        echo("\n4. draw the forecast")
        bars = plot_forecast(client, answer, plot or _drawing(Settings().writable_dir))
        console().print(line_of(answer, [bar.Close for bar in bars]))
        echo(f"go on with: PRICE_SOURCE=sample python -m cli forecast --model {job.model_id} --as-of 2018-11-20")


def line_of(answer: ForecastResponse, closes: Sequence[float]) -> str:
    """The last closes and the forecast's medians as a line of blocks, with the widest interval's end.

    The medians stand after a bar; persistence would be a flat line from there.
    """
    known, ahead = [*closes[-N_CLOSES_SHOWN:]], [step.price for step in answer.forecast]
    blocks = sparkline([*known, *ahead])
    last = answer.forecast[-1]
    widest = last.intervals[-1]
    return (
        f"{blocks[: len(known)]}|{blocks[len(known) :]}  {last.session}: {price(last.price)} "
        f"({widest.level:.0%} {price(widest.lower)} – {price(widest.upper)}), persistence {price(last.persistence)}"
    )


def sparkline(values: Sequence[float]) -> str:
    """One block per value, the lowest for the smallest.

    >>> sparkline([1, 2, 3, 8])
    '▁▂▃█'
    >>> sparkline([5, 5])
    '▁▁'
    """
    lowest, spread = min(values), max(values) - min(values)
    return "".join(BLOCKS[round((len(BLOCKS) - 1) * (value - lowest) / spread) if spread else 0] for value in values)


def _drawing(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / DRAWING
