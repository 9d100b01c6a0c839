"""A ticker's past in 80 columns: every part of its analysis."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.layout import UNKNOWN, columns, fact_sheet, format_p, line, notes
from stock_forecast_client.models import (
    Analysis,
    Correlogram,
    DataQuality,
    Dependence,
    Distribution,
    Drawdowns,
    LjungBox,
    Seasonality,
    Seasons,
    Stationarity,
    Summary,
    UnitRootTest,
    Volatility,
)

LAGS = (1, 2, 3, 4, 5, 10, 20)
N_LISTED = 3
TESTED = {"log_closes": "log closes", "log_returns": "log returns"}
REGRESSIONS = {"c": "constant", "ct": "trend"}


def analysis_table(answer: Analysis) -> RenderableType:
    head = (
        f"{answer.ticker} ({answer.currency or 'currency unknown'}), {answer.n_sessions} sessions, "
        f"{answer.first_session} to {answer.last_session}, source {answer.source}"
    )
    parts: tuple[tuple[str, Iterable[RenderableType]], ...] = (
        ("Returns", [_returns(answer.summary)]),
        ("Tails", _tails(answer.distribution)),
        ("Annualised volatility", [_volatility(answer.volatility)]),
        ("Deepest drawdowns", _drawdowns(answer.drawdowns)),
        ("Seasonality: mean log return ± its 95% error, in %", _seasons(answer.seasonality)),
        ("Autocorrelation", _dependence(answer.dependence)),
        ("Stationarity", _stationarity(answer.stationarity)),
        ("Data quality", [_data_quality(answer.data_quality)]),
    )
    shown = [item for title, part in parts for item in (Text(), Text(title, style="bold"), *part)]
    return Group(line(head), *shown, *notes(answer.warnings))


def _returns(summary: Summary) -> RenderableType:
    moments = summary.log_returns
    return fact_sheet(
        [
            ("volatility", f"{summary.annualised_volatility:.1%} a year"),
            ("mean log return", f"{summary.annualised_mean_log_return:+.1%} a year"),
            ("total log return", f"{summary.total_log_return:+.3f}"),
            ("one session", f"{moments.min:+.2%} to {moments.max:+.2%}"),
        ]
    )


def _tails(found: Distribution) -> Iterator[RenderableType]:
    beyond = f"{found.n_beyond_3_sd} sessions, {found.n_beyond_3_sd_if_normal:.1f} if normal"
    yield fact_sheet(
        [
            ("skewness", _figure(found.skewness)),
            ("excess kurtosis", _figure(found.excess_kurtosis)),
            ("Jarque–Bera", _tested(found.jarque_bera, found.jarque_bera_p_value)),
            ("beyond 3 sd", beyond),
        ]
    )
    quantiles = columns("quantile", *[f"{one.level:.1%}" for one in found.tails])
    quantiles.add_row("log returns", *[f"{one.empirical:+.2%}" for one in found.tails])
    quantiles.add_row("if normal", *[f"{one.normal:+.2%}" for one in found.tails])
    yield quantiles
    yield line(found.interpretation)


def _volatility(found: Volatility) -> RenderableType:
    table = columns("estimator", "sessions", "last", "median")
    for one in found.rolling:
        table.add_row(one.estimator.replace("_", " "), str(one.window), _share(one.last), _share(one.median))
    return table


def _drawdowns(found: Drawdowns) -> Iterator[RenderableType]:
    table = columns("depth", "peak", "trough", "recovered", "sessions down", "in total")
    for one in found.deepest:
        recovered = "not yet" if one.recovery is None else str(one.recovery)
        sessions = (str(one.n_sessions_down), str(one.n_sessions))
        table.add_row(f"{one.depth:.1%}", str(one.peak), str(one.trough), recovered, *sessions)
    yield table
    yield line(
        f"The last close is {-found.current:.1%} below its peak." if found.current else "The last close is the peak."
    )


def _seasons(found: Seasons) -> Iterator[RenderableType]:
    both = Table.grid(padding=(0, 6, 0, 0))
    both.add_row(_groups("weekday", found.weekday), _groups("month", found.month))
    yield both
    yield line("* the 95% interval excludes zero")
    yield line(found.weekday.interpretation)
    yield line(found.month.interpretation)


def _groups(kind: str, found: Seasonality) -> Table:
    table = columns(kind, "n", "mean", "±", "")
    for one in found.groups:
        error, mark = UNKNOWN, ""
        if one.lower is not None and one.upper is not None:
            error = f"{100 * (one.upper - one.lower) / 2:.3f}"
            mark = "" if one.lower <= 0 <= one.upper else "*"
        table.add_row(one.name, str(one.n), f"{100 * one.mean_log_return:+.3f}", error, mark)
    return table


def _dependence(found: Dependence) -> Iterator[RenderableType]:
    plain, squares = found.returns, found.squared_returns
    table = columns("lag", "ACF", "PACF", "±", "squares: ACF", "±", "PACF", "±")
    for place, lag in enumerate(plain.lags):
        if lag in LAGS:
            table.add_row(str(lag), *_of_returns(plain, place), *_of_squares(squares, place))
    yield table
    yield line("* beyond its bound (±): by chance 1 in 20 is; bounds of the returns allow for changing volatility")
    named = (("returns", plain.ljung_box), ("squares", squares.ljung_box))
    yield fact_sheet((f"Ljung–Box of {name}", _boxes(boxes)) for name, boxes in named)
    yield line(found.interpretation)


def _of_returns(found: Correlogram, place: int) -> list[str]:
    bound = found.acf_robust_bound[place]
    return [_marked(found.acf[place], bound), _marked(found.pacf[place], bound), _figure(bound)]


def _of_squares(found: Correlogram, place: int) -> list[str]:
    """With bounds that assume constant volatility, which the squares test."""
    bound, partial = found.acf_bound[place], found.pacf_bound
    return [_marked(found.acf[place], bound), _figure(bound), _marked(found.pacf[place], partial), _figure(partial)]


def _marked(value: float | None, bound: float | None) -> str:
    if value is None:
        return UNKNOWN
    beyond = bound is not None and abs(value) > bound
    return f"{value:+.3f}{'*' if beyond else ' '}"


def _boxes(boxes: Sequence[LjungBox]) -> str:
    return "; ".join(f"{one.lags} lags {_tested(one.statistic, one.p_value)}" for one in boxes)


def _stationarity(found: Stationarity) -> Iterator[RenderableType]:
    table = columns("test", "of", "around", "lags", "statistic", "p-value", "hypothesis")
    for one in found.tests:
        table.add_row(*_unit_root(one))
    yield table
    yield line(found.interpretation)


def _unit_root(one: UnitRootTest) -> list[str]:
    hypothesis = "unit root" if one.test == "adf" else "stationary"
    p_value = one.p_value_note or (UNKNOWN if one.p_value is None else format_p(one.p_value))
    lags = UNKNOWN if one.lags is None else str(one.lags)
    statistic = UNKNOWN if one.statistic is None else f"{one.statistic:.2f}"
    return [one.test.upper(), TESTED[one.of], REGRESSIONS[one.regression], lags, statistic, p_value, hypothesis]


def _data_quality(found: DataQuality) -> RenderableType:
    longest = sorted(found.missing, key=lambda run: -run.n_sessions)[:N_LISTED]
    largest = sorted(found.overnight_gaps, key=lambda gap: -abs(gap.mad_zscore))[:N_LISTED]
    gaps = [f"{gap.session} {gap.log_return:+.1%}" for gap in largest]
    runs = [f"{run.first} to {run.last}" if run.n_sessions > 1 else str(run.first) for run in longest]
    splits = [
        f"{one.session} {one.near} (close is {one.ratio:.3f} of the one before)" for one in found.suspected_splits
    ]
    return fact_sheet(
        [
            ("missing sessions", _listed(found.n_missing_sessions, runs, "longest")),
            ("unexpected sessions", f"{found.n_unexpected_sessions} on which {found.exchange} was closed"),
            ("overnight gaps", _listed(found.n_overnight_gaps, gaps, "largest")),
            ("suspected splits", _listed(len(splits), splits[:N_LISTED], "first")),
        ]
    )


def _listed(n: int, some: Sequence[str], which: str) -> str:
    if not some:
        return str(n)
    return f"{n}: {', '.join(some)}" if n == len(some) else f"{n}, {which}: {', '.join(some)}"


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1%}"


def _tested(statistic: float | None, p_value: float | None) -> str:
    return UNKNOWN if statistic is None or p_value is None else f"{statistic:.1f} ({format_p(p_value)})"
