"""Commands that look at prices, and ahead: fetch, predict, forecast, backtest, analyze."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli.analysis_table import analysis_table
from cli.options import AsJson, AsOf, End, Levels, Model, OptionalTicker, Plot, Start, given
from cli.output import drawn, show
from cli.tables import backtest_table, forecast_table, prediction_table, prices_table
from cli.target import target_of
from client import Client
from schemas.analysis import AnalysisRequest
from schemas.backtest import BacktestRequest, BacktestResponse
from schemas.fetch_data import Bar, FetchDataRequest
from schemas.predict import ForecastRequest, ForecastResponse, PredictRequest

DRAWN_BEFORE = timedelta(days=120)  # of prices, before a forecast
BAND_LEVELS = [0.5, 0.8, 0.95]
BAND_QUANTILES = [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975]  # the bounds of the same

Ticker = Annotated[str, typer.Argument(help="Symbol as Yahoo Finance writes it, such as PETR4.SA or '^GSPC'.")]


def fetch(
    context: typer.Context,
    ticker: Ticker,
    days: Annotated[
        int | None, typer.Option(help="Number of most recent sessions (default 10 if no dates are given).")
    ] = None,
    start: Start = None,
    end: End = None,
    as_json: AsJson = False,
) -> None:
    """Show daily prices."""
    if days is None and start is None and end is None:
        days = 10
    wanted = FetchDataRequest.model_validate(given(ticker=ticker, days=days, start_date=start, end_date=end))
    with target_of(context).client() as client:
        show(client.fetch_data(wanted), prices_table, as_json=as_json)


def predict(
    context: typer.Context,
    ticker: OptionalTicker = None,
    model: Model = "default",
    level: Levels = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the next session's close."""
    wanted = PredictRequest.model_validate(given(ticker=ticker, levels=level, as_of=as_of))
    with target_of(context).client() as client:
        show(client.predict(model, wanted), prediction_table, as_json=as_json)


def forecast(
    context: typer.Context,
    ticker: OptionalTicker = None,
    model: Model = "default",
    horizon: Annotated[int | None, typer.Option(help="Sessions to forecast; 10 by default.")] = None,
    level: Levels = None,
    as_of: AsOf = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the closes of the next sessions; a drawing has bands of 50, 80 and 95 % unless levels are given."""
    levels = BAND_LEVELS if plot is not None and level is None else level
    wanted = ForecastRequest.model_validate(given(ticker=ticker, horizon=horizon, levels=levels, as_of=as_of))
    with target_of(context).client() as client:
        answer = client.forecast(model, wanted)
        show(answer, forecast_table, as_json=as_json)
        if plot is not None:
            plot_forecast(client, answer, plot)


def backtest(
    context: typer.Context,
    ticker: OptionalTicker = None,
    model: Model = "default",
    start: Annotated[str | None, typer.Option(help="First origin; by default the first of the test block.")] = None,
    end: Annotated[str | None, typer.Option(help="Last session that may be known as an outcome.")] = None,
    stride: Annotated[int | None, typer.Option(help="Sessions between origins; 1 by default.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Sessions forecast from each origin; 5 by default.")] = None,
    level: Levels = None,
    refit_every: Annotated[int | None, typer.Option(help="Fit anew after so many origins.")] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Show what a model would have been worth, beside persistence and five other baselines."""
    arguments = given(
        ticker=ticker, start=start, end=end, stride=stride, horizon=horizon, levels=level, refit_every=refit_every
    )
    if plot is not None:
        arguments |= {"include_forecasts": True, "quantile_levels": BAND_QUANTILES}
    wanted = BacktestRequest.model_validate(arguments)
    with target_of(context).client() as client:
        answer = client.backtest(model, wanted)
        show(answer, backtest_table, as_json=as_json)
        if plot is not None:
            plot_backtest(client, answer, plot)


def analyze(
    context: typer.Context,
    ticker: Ticker,
    start: Start = None,
    end: End = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Describe a ticker's past: volatility, drawdowns, seasons, dependence."""
    wanted = AnalysisRequest.model_validate(given(start=start, end=end))
    with target_of(context).client() as client:
        answer = client.analysis(ticker, wanted)
    show(answer, analysis_table, as_json=as_json)
    if plot is not None:
        from cli.plots import draw_analysis

        with drawn(plot):
            draw_analysis(answer, plot)


def plot_forecast(client: Client, answer: ForecastResponse, path: Path) -> Sequence[Bar]:
    """Draw a forecast after the prices before it, and answer with those."""
    from cli.plots import draw_forecast

    bars = _bars(client, answer.ticker, answer.last_session - DRAWN_BEFORE, answer.last_session)
    with drawn(path):
        draw_forecast(answer, bars, path)
    return bars


def plot_backtest(client: Client, answer: BacktestResponse, path: Path) -> None:
    """Draw a backtest with the closes that its origins knew."""
    from cli.plots import draw_backtest

    bars = _bars(client, answer.ticker, answer.first_origin, answer.last_origin)
    with drawn(path):
        draw_backtest(answer, {bar.Date: bar.Close for bar in bars}, path)


def _bars(client: Client, ticker: str, first: date, last: date) -> Sequence[Bar]:
    return client.fetch_data(FetchDataRequest(ticker=ticker, start_date=first, end_date=last)).data
