"""The command that shows everything once, without a network: train, forecast, backtest, draw."""

from collections.abc import Sequence
from datetime import date

import typer

from cli.forecasting import BAND_LEVELS, plot_forecast
from cli.layout import console, price
from cli.options import Plot
from cli.output import echo, show
from cli.program import command_line
from cli.tables import backtest_table, forecast_table, trained_table
from cli.target import local_settings, target_of
from cli.training import follow_visibly
from stock_forecast_client.errors import error_of_job
from stock_forecast_client.models import ForecastResponse, TrainResult
from stock_forecast_client.requests import BacktestSubmission, ForecastRequest, TrainSubmission

TICKER = "^GSPC"
# small enough for half a minute on two cores
TRAINING = TrainSubmission(start_date=date(2010, 1, 1), epochs=8, max_seconds=30)
FORECAST = ForecastRequest(horizon=10, levels=BAND_LEVELS)
BACKTEST = BacktestSubmission(stride=5, horizon=5)
AS_OF = date(2018, 11, 20)
N_CLOSES_SHOWN = 48
BLOCKS = "▁▂▃▄▅▆▇█"


def demo(context: typer.Context, plot: Plot = None) -> None:
    """Try everything once on sample prices, without a network.

    Trains a small model, forecasts with it, backtests it and draws the forecast.
    """
    target = target_of(context)
    target.validate_local("demo")
    with target.client(price_source="sample") as client:
        _step("1. train a small model on daily prices of ^GSPC, 2010 to 2018", "train", TICKER, **TRAINING)
        job = follow_visibly(client.start_training(**(TRAINING | {"ticker": TICKER})), client, target)
        if not isinstance(job.result, TrainResult):
            raise error_of_job(job)
        show(job.result, trained_table, None)
        _step("\n2. forecast ten sessions", "forecast", model=job.model_id, **FORECAST)
        answer = client.forecast(job.model_id, **FORECAST)
        show(answer, forecast_table, None)
        _step(
            "\n3. backtest the model and seven baselines on its test block", "backtest", model=job.model_id, **BACKTEST
        )
        show(client.backtest(job.model_id, **BACKTEST), backtest_table, None)
        folder = local_settings().writable_dir
        folder.mkdir(parents=True, exist_ok=True)
        file = plot or folder / "demo.png"
        _step("\n4. draw the forecast", "forecast", model=job.model_id, **FORECAST, plot=file)
        bars = plot_forecast(client, answer, file)
        console().print(sparkline_of(answer, [bar.Close for bar in bars]))
        _step("\nnext: forecast as of an earlier session", "forecast", model=job.model_id, as_of=AS_OF)


def _step(title: str, *words: str, **fields: object) -> None:
    """Print what is done and the command that does it, which can be pasted."""
    echo(title)
    typer.echo(command_line(*words, width=console(stderr=True).width, **fields), err=True)


def sparkline_of(answer: ForecastResponse, closes: Sequence[float]) -> str:
    """A sparkline of the last closes and, after a bar, the forecast's medians; below, the figures of the last step."""
    known, medians = [*closes[-N_CLOSES_SHOWN:]], [step.price for step in answer.forecast]
    blocks = sparkline([*known, *medians])
    last = answer.forecast[-1]
    widest = last.intervals[-1]
    return (
        f"{blocks[: len(known)]}|{blocks[len(known) :]}\n{last.session}: {price(last.price)} "
        f"({widest.level:.0%} range {price(widest.lower)} – {price(widest.upper)}), no change {price(last.persistence)}"
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
