"""Plots of forecasts, backtests and analyses. Imports matplotlib, so it is imported only for a plot."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cli.layout import format_p
from stock_forecast_client.models import (
    Analysis,
    BacktestForecast,
    BacktestResponse,
    Bar,
    ForecasterReport,
    ForecastResponse,
    PriceLine,
    Series,
)

N_ORIGINS_DRAWN = 120
N_DATES_NAMED = 6
MIN_RANGE_PCT = 5.0  # so that a bar within chance does not fill the plot
PAGE, ACCENT, CANDLE, ORANGE = "#fcfbf8", "#0f5f5c", "#6b675f", "#b4430c"  # of the page, in web/style.css


def draw_forecast(answer: ForecastResponse, bars: Sequence[Bar], path: Path) -> None:
    """Candles up to the origin; after it the fan of ranges and the no-change forecast."""
    figure, (axes,) = _figure(1)
    _candles(axes, bars)
    n_known = len(bars)
    now = answer.forecast[0].persistence  # the last close, unless the model forecasts another column
    steps = np.arange(n_known - 1, n_known + len(answer.forecast))
    for level in [one.level for one in reversed(answer.forecast[0].intervals)]:  # the widest at the bottom
        bounds = [next(i for i in step.intervals if i.level == level) for step in answer.forecast]
        axes.fill_between(
            steps,
            [now, *[one.lower for one in bounds]],
            [now, *[one.upper for one in bounds]],
            **_band(level),
        )
    axes.plot(steps, [now, *[step.price for step in answer.forecast]], color=ACCENT, label="median")
    persistence = [now, *[step.persistence for step in answer.forecast]]
    axes.plot(steps, persistence, color=ORANGE, linestyle="--", label="no change")
    _dates(axes, [bar.Date for bar in bars] + [step.session for step in answer.forecast])
    axes.set_title(f"{answer.ticker}: {answer.model} model {answer.model_id} on {answer.last_session}")
    axes.set_ylabel(answer.currency or "price")
    axes.legend(loc="best", fontsize="small")
    _save(figure, path)


def draw_backtest(answer: BacktestResponse, closes: Mapping[date, float], path: Path) -> None:
    """The latest one-step forecasts with their outcomes, and every forecaster's error against persistence.

    ``answer`` includes its forecasts; ``closes`` are those of the origins, which persistence forecasts.
    """
    figure, (fan, errors) = _figure(2)
    known = [one for one in answer.forecasts or () if one.actuals[0] is not None][-N_ORIGINS_DRAWN:]
    _one_step_fan(fan, answer.quantile_levels, known, closes)
    fan.set_title(f"{answer.ticker}: {answer.model} model {answer.model_id}, one step ahead")
    fan.set_ylabel(answer.currency or "price")
    _skills(errors, [answer.model_report, *answer.baselines])
    errors.set_xlabel(
        f"skill: how much lower the MAE is than no change, %; {answer.n_origins} origins, {answer.horizon} steps"
    )
    _save(figure, path)


def draw_analysis(answer: Analysis, path: Path) -> None:
    figure, (closes, volatility, drawdowns) = _figure(3)
    _series(closes, answer.closes)
    closes.set_title(f"{answer.ticker}, {answer.first_session} to {answer.last_session}")
    closes.set_ylabel(answer.currency or "close")
    for one in answer.volatility.rolling[:3]:
        _series(volatility, one.series, f"{one.estimator.replace('_', ' ')}, {one.window} sessions")
    volatility.set_ylabel("annualised volatility")
    volatility.legend(fontsize="small")
    _series(drawdowns, answer.drawdowns.series)
    drawdowns.set_ylabel("below peak")
    _save(figure, path)


def _figure(rows: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(10, 2.2 + 3.3 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, 1, row + 1) for row in range(rows)]


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.grid(visible=True, alpha=0.2)
    figure.savefig(path, dpi=110)


def _band(level: float) -> dict[str, Any]:
    """The colour of a range: the wider, the paler."""
    return {"color": ACCENT, "alpha": 0.15 + 0.5 * (1 - level), "linewidth": 0, "label": f"{level:.0%} range"}


def _candles(axes: Axes, bars: Sequence[Bar]) -> None:
    """One candle per bar; the close replaces an unknown price."""
    places = np.arange(len(bars))
    close = np.array([bar.Close for bar in bars])
    opened, low, high = (
        np.array([bar.Close if value is None else value for bar, value in zip(bars, values, strict=True)])
        for values in ([bar.Open for bar in bars], [bar.Low for bar in bars], [bar.High for bar in bars])
    )
    bodies = [PAGE if rose else CANDLE for rose in close >= opened]  # hollow where the price rose
    axes.vlines(places, low, high, color=CANDLE, linewidth=0.8, zorder=1)
    axes.bar(
        places, np.abs(close - opened), 0.6, np.minimum(opened, close), color=bodies, edgecolor=CANDLE, linewidth=0.8
    )


def _one_step_fan(
    axes: Axes, levels: Sequence[float], forecasts: Sequence[BacktestForecast], closes: Mapping[date, float]
) -> None:
    places = np.arange(len(forecasts))
    quantiles = np.array([one.quantiles[0] for one in forecasts]).reshape(len(forecasts), len(levels))
    for lower in range(len(levels) // 2):
        upper = len(levels) - 1 - lower
        axes.fill_between(
            places,
            quantiles[:, lower],
            quantiles[:, upper],
            **_band(levels[upper] - levels[lower]),
        )
    if len(levels) % 2:
        axes.plot(places, quantiles[:, len(levels) // 2], color=ACCENT, linewidth=0.8, label="median")
    persistence = [closes.get(one.origin, np.nan) for one in forecasts]
    axes.plot(places, persistence, color=ORANGE, linestyle="--", linewidth=0.8, label="no change")
    actuals = [np.nan if one.actuals[0] is None else one.actuals[0] for one in forecasts]
    axes.plot(places, actuals, ".", color="black", markersize=3, label="outcome")
    _dates(axes, [one.sessions[0] for one in forecasts])
    axes.legend(loc="best", fontsize="small")


def _skills(axes: Axes, reports: Sequence[ForecasterReport]) -> None:
    skills = [100 * (one.overall.skill.mae or 0.0) for one in reports]
    named = [
        one.name if one.overall.p_value.mae is None else f"{one.name}, {format_p(one.overall.p_value.mae)}"
        for one in reports
    ]
    axes.barh(named, skills, color=[ACCENT if value > 0 else CANDLE for value in skills])
    axes.axvline(0, color=ORANGE, linestyle="--", label="no change")
    furthest = max(MIN_RANGE_PCT, 1.1 * max(map(abs, skills)))
    axes.set_xlim(-furthest, furthest)
    axes.invert_yaxis()
    axes.legend(fontsize="small")


def _series(axes: Axes, series: Series | PriceLine, label: str = "") -> None:
    values = np.array([np.nan if value is None else value for value in series.values])
    axes.plot(np.array(series.sessions, dtype="datetime64[D]"), values, linewidth=0.9, label=label)


def _dates(axes: Axes, sessions: Sequence[date]) -> None:
    """Label a few places; sessions follow each other without gaps for weekends."""
    places = range(0, len(sessions), max(1, len(sessions) // N_DATES_NAMED))
    axes.set_xticks(places, [str(sessions[place]) for place in places])
