"""The analysis of one ticker's history, as a document or as an HTML page."""

from datetime import datetime
from importlib.util import find_spec

import numpy as np

from errors import AnalysisUnavailable, InsufficientHistory, ZeroVariance
from schemas.analysis import Analysis, AnalysisRequest, PriceLine
from services.analysis.data_quality import data_quality
from services.analysis.dependence import MAX_LAG, dependence, stationarity
from services.analysis.drawdowns import drawdowns
from services.analysis.returns import distribution, log_returns, summary
from services.analysis.seasonality import seasons
from services.analysis.values import thinned
from services.analysis.volatility import volatility
from services.language import ENGLISH, Language
from services.prices.calendars import sessions_per_year
from services.prices.cleaning import validate_completeness
from services.prices.series import PriceHistory, PriceSeries, PriceSource, to_date

MIN_SESSIONS = 100  # fewer are too few for autocorrelations at 40 lags
MANY_WITHOUT_RANGE = 0.05
STATISTICS = ("scipy", "statsmodels")
DRAWING = ("matplotlib", "jinja2")

assert MIN_SESSIONS > 2 * MAX_LAG + 1  # noqa: S101  partial autocorrelations need more than twice their lags


def analyse(ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> Analysis:
    """The analysis of the sessions between the requested dates. Raises what ``history_to_analyse`` does."""
    return analysis_of(history_to_analyse(ticker, request, prices, now))


def analysis_page(ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> str:
    """``analyse`` as one HTML document. Raises the same errors."""
    history = history_to_analyse(ticker, request.model_copy(update={"format": "html"}), prices, now)
    return page_of(history, request.lang or ENGLISH)


def history_to_analyse(ticker: str, request: AnalysisRequest, prices: PriceSource, now: datetime) -> PriceHistory:
    """The sessions between the requested dates, which can be analysed in the requested format.

    Raises:
        AnalysisUnavailable: a library is not installed.
        InsufficientHistory: fewer than ``MIN_SESSIONS`` sessions lie between the dates.
        ZeroVariance: all returns are equal.
        PricesInvalid: most rows between the dates have no usable close.
        TickerNotFound, UnknownExchange, UpstreamUnavailable: from the source.
    """
    _require(STATISTICS, "statistics")
    if request.format == "html":
        _require(DRAWING, "the HTML page")
    history = prices.history(ticker, now).between(request.start, request.end)
    validate_completeness(history)
    series = history.series
    if len(series) < MIN_SESSIONS:
        raise InsufficientHistory(ticker, needed=MIN_SESSIONS, found=len(series))
    if float(np.ptp(log_returns(series.close))) <= 1e-12:  # equal but for rounding
        raise ZeroVariance(f"all daily returns of {series.ticker} are equal, so there is nothing to analyse")
    return history


def page_of(history: PriceHistory, language: Language = ENGLISH) -> str:
    """``analysis_of`` as one HTML document with figures, without scripts or external files."""
    from services.analysis.page.html import render

    return render(analysis_of(history), language)


def analysis_of(history: PriceHistory) -> Analysis:
    """The analysis of a history that ``history_to_analyse`` accepted."""
    series = history.series
    closes, sessions = series.close, series.sessions
    returns = log_returns(closes)
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
        data_quality=data_quality(series),
        warnings=_warnings(history, moves.n_without_range),
    )


def _price_line(series: PriceSeries) -> PriceLine:
    rows = thinned(series.close)
    return PriceLine(
        sessions=tuple(to_date(day) for day in series.sessions[rows]), values=tuple(series.close[rows].tolist())
    )


def _warnings(history: PriceHistory, n_without_range: int) -> tuple[str, ...]:
    series, found = history.series, []
    if history.stale:
        found.append(f"prices end on {history.as_of}; newer ones are not available")
    if n_without_range > MANY_WITHOUT_RANGE * len(series):
        found.append(
            f"{n_without_range} of {len(series)} sessions have no daily range; range-based volatility skips them"
        )
    return tuple(found)


def _require(libraries: tuple[str, ...], what: str) -> None:
    missing = [name for name in libraries if find_spec(name) is None]
    if missing:
        raise AnalysisUnavailable(f"{' and '.join(missing)} not installed, needed for {what}")
