"""Commands for prices and forecasts: fetch, predict, forecast, backtest, analyze."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.analysis_table import analysis_table
from cli.options import AsOf, End, Form, Levels, Model, OptionalTicker, Plot, Start, Ticker, given, model_or_own
from cli.output import drawing, show
from cli.tables import backtest_table, forecast_table, prediction_table, prices_table
from cli.target import target_of
from cli.training import follow_visibly
from cli.webhooks import WebhookSecret, WebhookUrl, webhook_of
from stock_forecast_client import Client
from stock_forecast_client.errors import error_of_job
from stock_forecast_client.models import BacktestResponse, Bar, ForecastResponse, Job

HISTORY_DRAWN = timedelta(days=120)  # before a forecast
BAND_LEVELS = [0.5, 0.8, 0.95]
BAND_QUANTILES = [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975]  # the bounds of the same ranges


def fetch(
    context: typer.Context,
    ticker: Ticker,
    days: Annotated[
        int | None, typer.Option(help="Number of most recent sessions (default 10 if no dates are given).")
    ] = None,
    start: Start = None,
    end: End = None,
    form: Form = None,
) -> None:
    """Show daily prices."""
    if days is None and start is None and end is None:
        days = 10
    with target_of(context).client() as client:
        prices = client.fetch_data(**given(ticker=ticker, days=days, start_date=start, end_date=end))
    show(prices, prices_table, form)


def predict(
    context: typer.Context,
    ticker: OptionalTicker = None,
    model: Model = None,
    level: Levels = None,
    as_of: AsOf = None,
    form: Form = None,
) -> None:
    """Forecast the next session's close."""
    with target_of(context).client() as client:
        answer = client.predict(model_or_own(model, ticker), **given(ticker=ticker, levels=level, as_of=as_of))
    show(answer, prediction_table, form)


def forecast(
    context: typer.Context,
    ticker: OptionalTicker = None,
    model: Model = None,
    horizon: Annotated[int | None, typer.Option(help="Sessions to forecast; 10 by default.")] = None,
    level: Levels = None,
    as_of: AsOf = None,
    plot: Plot = None,
    form: Form = None,
) -> None:
    """Forecast the closes of the next sessions.

    A plot has ranges of 50, 80 and 95 % unless levels are given.
    """
    levels = BAND_LEVELS if plot is not None and level is None else level
    with target_of(context).client() as client:
        answer = client.forecast(
            model_or_own(model, ticker), **given(ticker=ticker, horizon=horizon, levels=levels, as_of=as_of)
        )
        show(answer, forecast_table, form)
        if plot is not None:
            plot_forecast(client, answer, plot)


def backtest(
    context: typer.Context,
    ticker: OptionalTicker = None,
    model: Model = None,
    start: Annotated[str | None, typer.Option(help="First origin; by default the first of the test block.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session used as an outcome.")] = None,
    stride: Annotated[int | None, typer.Option(help="Sessions between origins; 1 by default.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Sessions forecast from each origin; 5 by default.")] = None,
    level: Levels = None,
    refit_every: Annotated[int | None, typer.Option(help="Refit after this many origins.")] = None,
    plot: Plot = None,
    webhook: WebhookUrl = None,
    webhook_secret: WebhookSecret = None,
    form: Form = None,
) -> None:
    """Compare a model with seven baselines on past sessions."""
    request = given(
        ticker=ticker,
        start=start,
        end=end,
        stride=stride,
        horizon=horizon,
        levels=level,
        refit_every=refit_every,
        webhook=webhook_of(context, webhook, webhook_secret),
    )
    if plot is not None:
        request |= {"include_forecasts": True, "quantile_levels": BAND_QUANTILES}
    target = target_of(context)
    with target.client() as client:
        started = client.start_backtest(model_or_own(model, ticker), **request)
        answer = _backtest_of(follow_visibly(started, client, target)) if isinstance(started, Job) else started
        show(answer, backtest_table, form)
        if plot is None:
            return
        bars = _bars(client, answer.ticker, answer.first_origin, answer.last_origin)
    from cli.plots import draw_backtest

    with drawing(plot):
        draw_backtest(answer, {bar.Date: bar.Close for bar in bars}, plot)


def _backtest_of(job: Job) -> BacktestResponse:
    if not isinstance(job.result, BacktestResponse):
        raise error_of_job(job)
    return job.result


def analyze(
    context: typer.Context,
    ticker: Ticker,
    start: Start = None,
    end: End = None,
    plot: Plot = None,
    form: Form = None,
) -> None:
    """Describe a ticker's past.

    Returns, volatility, drawdowns, seasonality, autocorrelation, stationarity and data quality.
    """
    with target_of(context).client() as client:
        answer = client.analysis(ticker, start=start, end=end)
    show(answer, analysis_table, form)
    if plot is not None:
        from cli.plots import draw_analysis

        with drawing(plot):
            draw_analysis(answer, plot)


def plot_forecast(client: Client, answer: ForecastResponse, path: Path) -> Sequence[Bar]:
    """Draw a forecast after the prices before it, which are returned."""
    from cli.plots import draw_forecast

    bars = _bars(client, answer.ticker, answer.last_session - HISTORY_DRAWN, answer.last_session)
    with drawing(path):
        draw_forecast(answer, bars, path)
    return bars


def _bars(client: Client, ticker: str, first: date, last: date) -> Sequence[Bar]:
    return client.fetch_data(ticker=ticker, start_date=first, end_date=last).data
