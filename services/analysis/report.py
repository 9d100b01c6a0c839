"""The history of one ticker, described: every statistic, as a document or as a page to read."""

from datetime import datetime
from importlib.util import find_spec

import numpy as np

from errors import AnalysisUnavailable, InsufficientHistory, ZeroVariance
from schemas.analysis import Analysis, AnalysisRequest, PriceLine
from services.analysis.dependence import MAX_LAG, dependence, stationarity
from services.analysis.drawdowns import drawdowns
from services.analysis.irregularities import irregularities
from services.analysis.returns import distribution, log_returns, summary
from services.analysis.seasonality import seasons
from services.analysis.values import Values, thinned
from services.analysis.volatility import volatility
from services.prices.calendars import sessions_per_year
from services.prices.cleaning import validate_completeness
from services.prices.series import PriceHistory, PriceSeries, PriceSource, to_date

MIN_SESSIONS = 100  # below, autocorrelations at 40 lags and a quarter's volatility say nothing
MANY_WITHOUT_RANGE = 0.05
STATISTICS = ("scipy", "statsmodels")
DRAWING = ("matplotlib", "jinja2")

assert MIN_SESSIONS > 2 * MAX_LAG + 1  # noqa: S101  partial autocorrelations need more than twice their lags


def analyse(ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> Analysis:
    """Everything there is to say of the sessions asked for.

    Raises:
        AnalysisUnavailable: the installation lacks a library for it.
        InsufficientHistory: fewer than ``MIN_SESSIONS`` lie between the dates.
        ZeroVariance: the closes never move, or always by the same share.
        PricesInvalid: most rows between the dates have no usable close.
        TickerNotFound, UnknownExchange, UpstreamUnavailable: from the source.
    """
    _require(STATISTICS, "the statistics")
    history = prices.history(ticker, now).between(request.start, request.end)
    validate_completeness(history)
    series = history.series
    if len(series) < MIN_SESSIONS:
        raise InsufficientHistory(ticker, needed=MIN_SESSIONS, found=len(series))
    returns = log_returns(series.close)
    _validate_movement(series, returns)
    return _analysis(history, returns)


def analysis_page(ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> str:
    """The same as one HTML document with its figures drawn, which needs neither network nor script.

    Raises:
        AnalysisUnavailable: the installation lacks a library for it.
        InsufficientHistory, ZeroVariance, PricesInvalid, TickerNotFound, UnknownExchange, UpstreamUnavailable: as
            ``analyse``.
    """
    _require(DRAWING, "the page")
    from services.analysis.page.html import render

    return render(analyse(ticker, request, prices, now))


def _analysis(history: PriceHistory, returns: Values) -> Analysis:
    series = history.series
    closes, sessions = series.close, series.sessions
    per_year = sessions_per_year(series.exchange, series.first_session, series.last_session)
    moves = volatility(sessions, series.bars, per_year)
    return Analysis(
        ticker=series.ticker,
        currency=series.currency,
        source=history.source,
        first_session=series.first_session,
        last_session=series.last_session,
        n_sessions=len(series),
        stale=history.stale,
        demo=history.demo,
        dropped=dict(history.dropped),
        repaired=dict(history.repaired),
        sessions_per_year=per_year,
        closes=_price_line(series),
        summary=summary(closes, returns, per_year),
        distribution=distribution(returns),
        volatility=moves,
        drawdowns=drawdowns(sessions, closes),
        seasonality=seasons(sessions, returns),
        dependence=dependence(returns),
        stationarity=stationarity(closes, returns),
        irregularities=irregularities(series),
        warnings=_warnings(history, moves.n_without_range),
    )


def _price_line(series: PriceSeries) -> PriceLine:
    rows = thinned(series.close)
    return PriceLine(
        sessions=tuple(to_date(day) for day in series.sessions[rows]), values=tuple(series.close[rows].tolist())
    )


def _validate_movement(series: PriceSeries, returns: Values) -> None:
    if float(np.ptp(returns)) <= 1e-12:  # what rounding alone makes of equal ratios
        raise ZeroVariance(
            f"the closes of {series.ticker} never move, or always by the same share: there is nothing to analyse"
        )


def _warnings(history: PriceHistory, n_without_range: int) -> tuple[str, ...]:
    series, found = history.series, []
    if history.stale:
        found.append(f"prices end on {history.as_of}; newer ones are not available")
    if n_without_range > MANY_WITHOUT_RANGE * len(series):
        found.append(
            f"{n_without_range} of {len(series)} sessions have no daily range; range-based volatility leaves them out"
        )
    return tuple(found)


def _require(libraries: tuple[str, ...], what: str) -> None:
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise AnalysisUnavailable(f"this installation has no {' and no '.join(missing)}, needed for {what}")
