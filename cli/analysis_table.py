"""A ticker's past: every part of its analysis, complete in 80 columns."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from rich.console import Group, RenderableType
from rich.text import Text

from cli.layout import Facts, figure, format_p, heading, level_name, line, notes, p_cell, share, signed, signed_share
from cli.sheet import UNKNOWN, Column, Sheet, Value
from stock_forecast_client.models import (
    Analysis,
    Correlogram,
    DataQuality,
    Dependence,
    Distribution,
    Drawdowns,
    LjungBox,
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
        f"{answer.ticker} ({answer.currency or 'currency unknown'}), {answer.n_sessions:,} sessions, "
        f"{answer.first_session} to {answer.last_session}, source {answer.source}"
    )
    parts: tuple[tuple[str, Iterable[RenderableType]], ...] = (
        ("Returns", [_returns(answer.summary)]),
        ("Tails", _tails(answer.distribution)),
        ("Annualised volatility", [_volatility(answer.volatility)]),
        ("Deepest drawdowns", _drawdowns(answer.drawdowns)),
        ("Seasonality: mean log return ± its 95% error", _seasons(answer.seasonality)),
        ("Autocorrelation", _dependence(answer.dependence)),
        ("Stationarity", _stationarity(answer.stationarity)),
        ("Data quality", [_data_quality(answer.data_quality)]),
    )
    shown = [item for title, part in parts for item in (Text(), heading(title), *part)]
    return Group(line(head), *shown, *notes(answer.warnings))


def _returns(summary: Summary) -> RenderableType:
    moments = summary.log_returns
    return Facts(
        [
            ("volatility", f"{summary.annualised_volatility:.1%} a year"),
            ("mean log return", f"{summary.annualised_mean_log_return:+.1%} a year"),
            ("total log return", f"{summary.total_log_return:+.3f}"),
            ("one session", f"{moments.min:+.2%} to {moments.max:+.2%}"),
        ]
    )


def _tails(found: Distribution) -> Iterator[RenderableType]:
    beyond = f"{found.n_beyond_3_sd} sessions, {found.n_beyond_3_sd_if_normal:.1f} if normal"
    yield Facts(
        [
            ("skewness", figure(found.skewness)),
            ("excess kurtosis", figure(found.excess_kurtosis)),
            ("Jarque–Bera", _tested(found.jarque_bera, found.jarque_bera_p_value)),
            ("beyond 3 sd", beyond),
        ]
    )
    quantiles = Sheet(
        "tails",
        [
            Column("quantile", level_name, ("quantile_level",)),
            Column("log return", signed_share, ("empirical",)),
            Column("if normal", signed_share, ("normal",)),
        ],
    )
    for one in found.tails:
        quantiles.add(one.level, one.empirical, one.normal)
    yield quantiles
    yield line(found.interpretation)


def _volatility(found: Volatility) -> RenderableType:
    table = Sheet(
        "volatility",
        [
            Column("estimator", left=True),
            Column("sessions", names=("window",)),
            Column("last", share),
            Column("median", share),
        ],
    )
    for one in found.rolling:
        table.add(one.estimator.replace("_", " "), one.window, one.last, one.median)
    return table


def _drawdowns(found: Drawdowns) -> Iterator[RenderableType]:
    table = Sheet(
        "drawdowns",
        [
            Column("depth", share),
            Column("peak"),
            Column("trough"),
            Column("recovered", _recovered, ("recovery",)),
            Column("sessions down", names=("n_sessions_down",), rank=1),
            Column("in total", names=("n_sessions",), rank=1),
        ],
    )
    for one in found.deepest:
        table.add(one.depth, one.peak, one.trough, one.recovery, one.n_sessions_down, one.n_sessions)
    yield table
    yield line(
        f"The last close is {-found.current:.1%} below its peak." if found.current else "The last close is the peak."
    )


def _recovered(session: date | None) -> str:
    return "not yet" if session is None else str(session)


def _seasons(found: Seasons) -> Iterator[RenderableType]:
    table = Sheet(
        "seasonality",
        [
            Column("group", left=True),
            Column("n"),
            Column("mean", signed_share, ("mean_log_return",)),
            Column("±", _error, ("lower", "upper")),
        ],
    )
    for one in (*found.weekday.groups, *found.month.groups):
        table.add(one.name, one.n, one.mean_log_return, (one.lower, one.upper))
    yield table
    yield line("* the 95% interval excludes zero")
    yield line(found.weekday.interpretation)
    yield line(found.month.interpretation)


def _error(bounds: tuple[float | None, float | None]) -> str:
    """Half the width of the interval, marked if it excludes zero."""
    lower, upper = bounds
    if lower is None or upper is None:
        return f"{UNKNOWN} "
    return f"{share((upper - lower) / 2)}{' ' if lower <= 0 <= upper else '*'}"


def _dependence(found: Dependence) -> Iterator[RenderableType]:
    plain, squares = found.returns, found.squared_returns
    table = Sheet(
        "autocorrelation",
        [
            Column("lag"),
            Column("ACF", _marked, ("acf", "acf_bound")),
            Column("PACF", _marked, ("pacf", "pacf_bound")),
            Column("±", figure, ("acf_bound",)),
            Column("squares: ACF", _marked, ("squares_acf", "squares_acf_bound"), rank=1),
            Column("±", figure, ("squares_acf_bound",), rank=1),
            Column("PACF", _marked, ("squares_pacf", "squares_pacf_bound"), rank=2),
            Column("±", figure, ("squares_pacf_bound",), rank=2),
        ],
    )
    for place, lag in enumerate(plain.lags):
        if lag in LAGS:
            table.add(lag, *_of_returns(plain, place), *_of_squares(squares, place))
    yield table
    yield line("* beyond its bound (±): by chance 1 in 20 is; bounds of the returns allow for changing volatility")
    named = (("returns", plain.ljung_box), ("squares", squares.ljung_box))
    yield Facts((f"Ljung–Box of {name}", _boxes(boxes)) for name, boxes in named)
    yield line(found.interpretation)


def _of_returns(found: Correlogram, place: int) -> list[Value]:
    bound = found.acf_robust_bound[place]
    return [(found.acf[place], bound), (found.pacf[place], bound), bound]


def _of_squares(found: Correlogram, place: int) -> list[Value]:
    """With bounds that assume constant volatility, which the squares test."""
    bound, partial = found.acf_bound[place], found.pacf_bound
    return [(found.acf[place], bound), bound, (found.pacf[place], partial), partial]


def _marked(found: tuple[float | None, float | None]) -> str:
    value, bound = found
    beyond = value is not None and bound is not None and abs(value) > bound
    return f"{signed(value)}{'*' if beyond else ' '}"


def _boxes(boxes: Sequence[LjungBox]) -> str:
    return "; ".join(f"{one.lags} lags {_tested(one.statistic, one.p_value)}" for one in boxes)


def _stationarity(found: Stationarity) -> Iterator[RenderableType]:
    table = Sheet(
        "stationarity",
        [
            Column("test", left=True),
            Column("of", left=True),
            Column("around", left=True, rank=2),
            Column("lags", rank=2),
            Column("statistic", figure),
            Column("p-value", _p_value, ("p_value", "p_value_note")),
            Column("hypothesis", left=True, rank=1),
        ],
    )
    for one in found.tests:
        table.add(*_unit_root(one))
    yield table
    yield line(found.interpretation)


def _unit_root(one: UnitRootTest) -> list[Value]:
    hypothesis = "unit root" if one.test == "adf" else "stationary"
    about = (one.test.upper(), TESTED[one.of], REGRESSIONS[one.regression])
    return [*about, one.lags, one.statistic, (one.p_value, one.p_value_note), hypothesis]


def _p_value(found: tuple[float | None, str | None]) -> str:
    p_value, note = found
    return note or p_cell(p_value)


def _data_quality(found: DataQuality) -> RenderableType:
    longest = sorted(found.missing, key=lambda run: -run.n_sessions)[:N_LISTED]
    largest = sorted(found.overnight_gaps, key=lambda gap: -abs(gap.mad_zscore))[:N_LISTED]
    gaps = [f"{gap.session} {gap.log_return:+.1%}" for gap in largest]
    runs = [f"{run.first} to {run.last}" if run.n_sessions > 1 else str(run.first) for run in longest]
    splits = [
        f"{one.session} {one.near} (close is {one.ratio:.3f} of the one before)" for one in found.suspected_splits
    ]
    return Facts(
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


def _tested(statistic: float | None, p_value: float | None) -> str:
    return UNKNOWN if statistic is None or p_value is None else f"{statistic:.1f} ({format_p(p_value)})"
