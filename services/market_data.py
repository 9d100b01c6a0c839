"""The daily prices of a request."""

import math
from datetime import datetime

from errors import InsufficientHistory
from schemas.fetch_data import Bar, FetchDataRequest, FetchDataResponse
from services.prices.series import COLUMNS, PriceSeries, PriceSource, to_date


def fetch_data(request: FetchDataRequest, prices: PriceSource, now: datetime) -> FetchDataResponse:
    """The sessions of the requested range, and their source.

    Raises:
        InsufficientHistory: no session lies in the range.
        TickerNotFound, UpstreamUnavailable: from the source.
    """
    history = prices.history(request.ticker, now, request.days)
    if request.days is not None:
        history = history.tail(request.days)
    else:
        history = history.between(request.start_date, request.end_date)
    series = history.series
    if not len(series):
        raise InsufficientHistory(request.ticker, needed=1, found=0)
    return FetchDataResponse(
        ticker=request.ticker,
        data=_bars(series),
        currency=series.currency,
        source=history.source,
        as_of=history.as_of,
        stale=history.stale,
        demo=history.demo,
        dropped=dict(history.dropped),
        repaired=dict(history.repaired),
    )


def _bars(series: PriceSeries) -> tuple[Bar, ...]:
    return tuple(
        Bar(
            Date=to_date(session),
            **{name: None if math.isnan(cell) else cell for name, cell in zip(COLUMNS, row, strict=True)},
        )
        for session, row in zip(series.sessions, series.bars.tolist(), strict=True)
    )
