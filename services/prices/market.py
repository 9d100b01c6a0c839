"""The market of each exchange: its index, and the implied volatility of that."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

from cachetools import TTLCache

from errors import AppError, TickerNotFound
from services.prices.series import Market, PriceHistory, PriceSource

RETRY_S = 300.0  # after a failure: an index that cannot be fetched must not slow every answer down
SPARE_SESSIONS = 20  # more of the index than of the ticker, which may have missed some

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MarketTickers:
    """The index of an exchange and the index of its implied volatility."""

    index: str
    implied: str | None = None


MARKETS: Mapping[str, MarketTickers] = {
    "XNYS": MarketTickers("^GSPC", "^VIX"),
    **{
        exchange: MarketTickers(index)
        for exchange, index in {
            "BVMF": "^BVSP", "XLON": "^FTSE", "XETR": "^GDAXI", "XFRA": "^GDAXI", "XHAM": "^GDAXI", "XDUS": "^GDAXI",
            "XSTU": "^GDAXI", "XPAR": "^FCHI", "XAMS": "^AEX", "XBRU": "^BFX", "XMAD": "^IBEX", "XSWX": "^SSMI",
            "XSTO": "^OMX", "XHEL": "^OMXH25", "XCSE": "^OMXC25", "XOSL": "^OSEAX", "XWBO": "^ATX", "XDUB": "^ISEQ",
            "XTSE": "^GSPTSE", "XTKS": "^N225", "XHKG": "^HSI", "XTAI": "^TWII", "XKRX": "^KS11", "XBOM": "^NSEI",
            "XASX": "^AXJO", "XNZE": "^NZ50", "XSES": "^STI", "XIDX": "^JKSE", "XKLS": "^KLSE", "XMEX": "^MXX",
            "XBUE": "^MERV", "XSGO": "^IPSA",
        }.items()
    },
}  # fmt: skip
"""By the name of the trading calendar."""


class MarketAwareSource:
    """Wraps a price source and adds the market of the exchange to each history, without it where it is unavailable.

    Args:
        source: supplies tickers and indices.
    """

    def __init__(self, source: PriceSource) -> None:
        self._source = source
        self._unavailable: TTLCache[str, bool] = TTLCache(maxsize=256, ttl=RETRY_S)

    def history(self, ticker: str, now: datetime, recent: int | None = None) -> PriceHistory:
        history = self._source.history(ticker, now, recent)
        tickers = MARKETS.get(history.series.exchange)
        if tickers is None:
            return history
        found = {ticker: history}
        for name in (tickers.index, tickers.implied):
            if name is None or name in found or name in self._unavailable:
                continue
            try:
                one = self._source.history(name, now, None if recent is None else recent + SPARE_SESSIONS)
            except AppError as error:
                self._unavailable[name] = True
                level = logging.INFO if isinstance(error, TickerNotFound) else logging.WARNING
                log.log(level, "forecasts do without %s: %s", name, error.message)
                continue
            if one.source == history.source:
                found[name] = one
        if tickers.index not in found:
            return history
        return _joined(history, found[tickers.index], found.get(tickers.implied or ""))


@lru_cache(maxsize=64)
def _joined(history: PriceHistory, index: PriceHistory, implied: PriceHistory | None) -> PriceHistory:
    """The same object for the same histories: what is worked out from it is remembered by its identity."""
    return replace(history, market=Market(index.series, None if implied is None else implied.series))
