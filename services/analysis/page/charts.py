"""The figures of an analysis as SVG, drawn by matplotlib.

Colours are CSS variables, so that one drawing suits light and dark pages; text
stays text. matplotlib's settings are global, so they are set once on import.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from io import StringIO
from statistics import NormalDist
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

from schemas.analysis import Analysis, Correlogram, DrawdownEpisode, Seasonality, Series

WIDTH_IN, HEIGHT_IN = 4.8, 3.1  # keeps text readable on phones and large screens

# Placeholder colours for matplotlib, each replaced by a CSS variable in the SVG.
INK, MUTED, GRID = "#010101", "#020202", "#030303"
BLUE, ORANGE, TEAL, PURPLE = "#040404", "#050505", "#060606", "#070707"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    TEAL: "var(--teal)",
    PURPLE: "var(--purple)",
}

_SVG = "{http://www.w3.org/2000/svg}"
_XLINK = "{http://www.w3.org/1999/xlink}"
_REFERENCE = re.compile(r"#([\w-]+)")
_LONG_DECIMAL = re.compile(r"(\.\d\d)\d+")

mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "analysis",
        "font.sans-serif": ["DejaVu Sans"],  # measures the text; the page sets its own font
        "font.size": 10.5,
        "axes.facecolor": "none",
        "text.color": INK,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": MUTED,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "lines.linewidth": 1.3,
        "lines.solid_joinstyle": "round",
    }
)


def price(analysis: Analysis) -> str:
    figure, (above, below) = _figure(rows=2, ratios=(3, 1.4))
    closes = np.array(analysis.closes.values)
    above.plot(_days(analysis.closes.sessions), np.log10(closes), color=BLUE)
    ticks = price_ticks(float(closes.min()), float(closes.max()))
    above.yaxis.set_major_locator(FixedLocator(np.log10(ticks).tolist()))
    above.yaxis.set_major_formatter(FuncFormatter(lambda _, row: f"{ticks[row]:,.10g}" if row is not None else ""))
    above.tick_params(labelbottom=False, bottom=False)
    above.margins(x=0.01)
    above.set_ylabel(analysis.currency or "price")
    for episode in analysis.drawdowns.deepest:
        above.axvspan(*_days([episode.peak, episode.recovery or analysis.last_session]), color=ORANGE, alpha=0.12, lw=0)
    series = analysis.drawdowns.series
    below.fill_between(_days(series.sessions), _floats(series), color=ORANGE, alpha=0.35, lw=0)
    below.plot(_days(series.sessions), _floats(series), color=ORANGE, lw=0.8)
    below.set_ylabel("drawdown")
    _percent(below, n_ticks=3)
    _dated(below)
    return _svg(figure, "price", "Closing price on a logarithmic axis, with the drawdown from its peak below")


def histogram(analysis: Analysis) -> str:
    figure, (axes,) = _figure()
    found, moments = analysis.distribution, analysis.summary.log_returns
    edges = np.array(found.bin_edges)
    axes.stairs(found.counts, edges, fill=True, color=BLUE, alpha=0.55, label="log returns")
    grid = np.linspace(edges[0], edges[-1], 160)
    normal = NormalDist(moments.mean or 0.0, moments.sd or 1.0)
    expected = moments.n * (edges[1] - edges[0]) * np.array([normal.pdf(x) for x in grid])
    axes.plot(grid, expected, color=ORANGE, label="normal, same mean and sd")
    axes.set_ylabel("sessions")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(_percent_of(edges[0], edges[-1]))
    _legend(axes, columns=2)
    return _svg(figure, "histogram", "Histogram of daily log returns with the normal curve of the same mean and spread")


def volatility(analysis: Analysis) -> str:
    figure, (axes,) = _figure()
    styles = ((BLUE, "-", 1.0), (INK, "-", 1.6), (TEAL, "--", 1.0), (PURPLE, ":", 1.2))
    for rolling, (colour, dash, width) in zip(analysis.volatility.rolling, styles, strict=True):
        label = f"{rolling.estimator.replace('_', '-')}, {rolling.window}"
        axes.plot(_days(rolling.series.sessions), _floats(rolling.series), color=colour, ls=dash, lw=width, label=label)
    axes.set_ylim(bottom=0)
    _percent(axes, n_ticks=5)
    _dated(axes)
    _legend(axes, columns=2)
    return _svg(figure, "volatility", "Rolling annualised volatility by four estimators")


def drawdowns(analysis: Analysis) -> str:
    figure, (axes,) = _figure()
    episodes = analysis.drawdowns.deepest
    axes.barh(range(len(episodes)), [episode.depth for episode in episodes], color=ORANGE, alpha=0.7, height=0.34)
    for row, episode in enumerate(episodes):
        axes.text(0, row - 0.24, _span(episode), ha="right", va="bottom", fontsize=9.5)
    axes.set_ylim(-0.9, max(len(episodes), 1) - 0.6)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return _svg(figure, "drawdowns", "The deepest drawdowns as bars, with the dates of peak and trough")


def weekday(analysis: Analysis) -> str:
    label = "Mean daily log return by weekday with 95 % error bars"
    return _seasonality(analysis.seasonality.weekday, "weekday", label)


def month(analysis: Analysis) -> str:
    return _seasonality(analysis.seasonality.month, "month", "Mean daily log return by month with 95 % error bars")


def acf_returns(analysis: Analysis) -> str:
    found = analysis.dependence.returns
    return _lags(found, found.acf, found.acf_bound, "acf-returns", "Autocorrelation of log returns", robust=True)


def pacf_returns(analysis: Analysis) -> str:
    found = analysis.dependence.returns
    bounds = [found.pacf_bound] * len(found.lags)
    label = "Partial autocorrelation of log returns"
    return _lags(found, found.pacf, bounds, "pacf-returns", label, robust=True)


def acf_squares(analysis: Analysis) -> str:
    found = analysis.dependence.squared_returns
    return _lags(found, found.acf, found.acf_bound, "acf-squares", "Autocorrelation of squared log returns")


def pacf_squares(analysis: Analysis) -> str:
    found = analysis.dependence.squared_returns
    bounds = [found.pacf_bound] * len(found.lags)
    return _lags(found, found.pacf, bounds, "pacf-squares", "Partial autocorrelation of squared log returns")


FIGURES: dict[str, Callable[[Analysis], str]] = {
    "price": price,
    "histogram": histogram,
    "volatility": volatility,
    "drawdowns": drawdowns,
    "weekday": weekday,
    "month": month,
    "acf_returns": acf_returns,
    "pacf_returns": pacf_returns,
    "acf_squares": acf_squares,
    "pacf_squares": pacf_squares,
}


def price_ticks(low: float, high: float) -> list[float]:
    """Round prices between two: even steps on a short axis, 1–2–5 on one that spans powers of ten.

    >>> price_ticks(90, 140)
    [90.0, 100.0, 110.0, 120.0, 130.0, 140.0]
    >>> price_ticks(1, 60)
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    """
    # in units of a power of ten, because steps near the largest float overflow
    even = high / 10 < low
    unit = 10.0 ** max(-300, math.floor(math.log10(high))) if even else 1.0
    locator = MaxNLocator(6) if even else LogLocator(subs=(1.0, 2.0, 5.0), numticks=7)
    with np.errstate(over="ignore"):
        ticks = np.asarray(locator.tick_values(low / unit, high / unit)) * unit
    within = (ticks >= low * (1 - 1e-12)) & (ticks <= high * (1 + 1e-12)) & np.isfinite(ticks)
    inside = [float(f"{tick:.12g}") for tick in ticks[within]]
    return inside if len(inside) > 1 else [low, high]


def _seasonality(found: Seasonality, name: str, label: str) -> str:
    figure, (axes,) = _figure()
    means = np.array([group.mean_log_return for group in found.groups])
    bars = [(group.mean_log_return if group.lower is None else group.lower) for group in found.groups]
    tops = [(group.mean_log_return if group.upper is None else group.upper) for group in found.groups]
    reach = np.maximum([means - np.array(bars), np.array(tops) - means], 0)
    places = np.arange(means.size)
    axes.axhline(0, color=MUTED, lw=0.8)
    axes.errorbar(places, means, yerr=reach, fmt="o", color=BLUE, ecolor=BLUE, elinewidth=1.6, capsize=4, ms=6)
    axes.set_xticks(places, [group.name[:3] for group in found.groups])
    axes.tick_params(axis="x", length=0, labelsize=9.5)
    axes.margins(x=0.06)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(_percent_of(*axes.get_ylim()))
    return _svg(figure, name, label)


def _lags(
    found: Correlogram,
    values: Sequence[float | None],
    bounds: Sequence[float | None],
    name: str,
    label: str,
    *,
    robust: bool = False,
) -> str:
    figure, (axes,) = _figure()
    lags, heights = np.array(found.lags), _array(values)
    wide = np.abs(heights) > (_array(found.acf_robust_bound) if robust else _array(bounds))
    axes.fill_between(lags, -_array(bounds), _array(bounds), color=MUTED, alpha=0.16, lw=0, label="chance, 95 %")
    if robust:
        for sign in (1, -1):
            text = "with changing volatility" if sign == 1 else None
            axes.plot(lags, sign * _array(found.acf_robust_bound), color=MUTED, ls="--", lw=1, label=text)
    axes.axhline(0, color=MUTED, lw=0.8)
    for chosen, colour in ((wide, ORANGE), (~wide, BLUE)):
        axes.vlines(lags[chosen], 0, heights[chosen], color=colour, lw=2)
        axes.plot(lags[chosen], heights[chosen], "o", color=colour, ms=3.5)
    axes.set_xlabel("lag, sessions")
    axes.set_xlim(0, lags[-1] + 1)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _legend(axes, columns=2)
    return _svg(figure, name, f"{label} at lags 1 to {lags[-1]} with the bounds of chance")


def _figure(rows: int = 1, ratios: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
    grid: Any = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=ratios)
    return figure, list(grid[:, 0])


def _days(sessions: Iterable[date]) -> Any:
    return date2num(list(sessions))  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped


def _floats(series: Series) -> Any:
    return _array(series.values)


def _array(values: Iterable[float | None]) -> Any:
    return np.array([np.nan if value is None else value for value in values])


def _dated(axes: Axes) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=7)  # type: ignore[no-untyped-call]
    axes.xaxis_date()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))  # type: ignore[no-untyped-call]
    axes.margins(x=0.01)


def _percent(axes: Axes, n_ticks: int) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(n_ticks))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _percent_of(low: float, high: float) -> PercentFormatter:
    """With as many decimals as six ticks between the two need."""
    span = max(high - low, 1e-12) * 100 / 6
    return PercentFormatter(1, decimals=int(np.clip(np.ceil(-np.log10(span)), 0, 8)))


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, handlelength=1.6)


def _span(episode: DrawdownEpisode) -> str:
    return f"{episode.peak} – {episode.trough}  −{-episode.depth:.0%}"


def _svg(figure: Figure, name: str, label: str) -> str:
    """The drawing as an element of a page: no XML declaration, unique ids, colours as variables."""
    FigureCanvasSVG(figure)  # measures the texts
    ConstrainedLayoutEngine().execute(figure)  # not as the figure's own engine: for that, all is drawn once more
    drawn = StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(drawn, format="svg", facecolor="none", metadata=no_metadata)
    root = ET.fromstring(drawn.getvalue())  # noqa: S314  from matplotlib
    _strip(root)
    _own_ids(root, name)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    text = ET.tostring(root, encoding="unicode")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    return text


def _strip(element: ET.Element) -> None:
    """Drop namespaces, metadata, needless decimals and style sheets, which would affect the whole page.

    Styles become attributes, so that a page whose policy forbids inline styles can show the figure.
    """
    element.tag = element.tag.removeprefix(_SVG)
    element.attrib = {key.removeprefix(_XLINK): value for key, value in element.attrib.items()}
    for declaration in filter(None, element.attrib.pop("style", "").split(";")):
        name, _, value = declaration.partition(":")
        element.attrib[name.strip()] = value.strip()
    if "d" in element.attrib:
        element.attrib["d"] = _LONG_DECIMAL.sub(r"\1", element.attrib["d"])
    for child in list(element):
        if child.tag in (f"{_SVG}metadata", f"{_SVG}style"):
            element.remove(child)
        else:
            _strip(child)


def _own_ids(root: ET.Element, name: str) -> None:
    """Several figures share one page: prefix ids with the figure's name, and drop unused ones."""
    wanted = {
        found
        for element in root.iter()
        for key, value in element.attrib.items()
        if key in ("href", "clip-path")
        for found in _REFERENCE.findall(value)
    }
    for element in root.iter():
        if element.attrib.get("id") not in wanted:
            element.attrib.pop("id", None)
        for key in {"id", "href", "clip-path"} & element.attrib.keys():
            element.attrib[key] = re.sub(r"^(url\(#|#|)", rf"\g<1>{name}-", element.attrib[key])
