"""Suggests the ticker that a caller probably means by an unknown one."""

import re
from collections.abc import Container

from errors import AppError
from schemas.common import TICKER_PATTERN
from services.prices.exchanges import suffixed

# four letters and the class of the share; 31 to 39 are Brazilian depositary receipts
_BRAZILIAN = re.compile(r"[A-Z]{4}(?:3|4|5|6|11|3[1-9])")
_SHARE_CLASS = re.compile(r"([A-Z]{1,5})\.([ABC])")
_PAIR = re.compile(r"([A-Z]{3,4})[-.]?([A-Z]{3})")

# suffixes of other services -> those of Yahoo Finance
_SUFFIXES = {
    "NSE": "NS", "BSE": "BO", "LON": "L", "LSE": "L", "BVMF": "SA", "SAO": "SA", "TYO": "T", "XETRA": "DE", "ETR": "DE",
    "FRA": "F", "EPA": "PA", "AMS": "AS", "HKG": "HK", "TSX": "TO", "ASX": "AX",
}  # fmt: skip

_INDICES = {
    "SPX": "^GSPC", "SP500": "^GSPC", "GSPC": "^GSPC", "IBOV": "^BVSP", "IBOVESPA": "^BVSP", "BVSP": "^BVSP",
    "DAX": "^GDAXI", "GDAXI": "^GDAXI", "NASDAQ": "^IXIC", "IXIC": "^IXIC", "FTSE": "^FTSE", "FTSE100": "^FTSE",
    "N225": "^N225", "NIKKEI": "^N225", "VIX": "^VIX", "DJI": "^DJI", "DJIA": "^DJI", "NIFTY": "^NSEI",
    "NIFTY50": "^NSEI", "SENSEX": "^BSESN",
}  # fmt: skip

_CURRENCIES = frozenset({
    "AUD", "BRL", "CAD", "CHF", "CNY", "EUR", "GBP", "HKD", "INR", "JPY", "KRW", "MXN", "NOK", "NZD", "SEK", "SGD",
    "TRY", "USD", "ZAR",
})  # fmt: skip
_COINS = frozenset({
    "ADA", "AVAX", "BCH", "BNB", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "SOL", "TRX", "XLM", "XMR", "XRP",
})  # fmt: skip


def suggestion(ticker: str) -> str | None:
    """The symbol on Yahoo Finance that ``ticker`` probably means; None without a guess.

    >>> suggestion("PETR4"), suggestion("BRK.B"), suggestion("BTCUSD"), suggestion("AAPL")
    ('PETR4.SA', 'BRK-B', 'BTC-USD', None)
    """
    symbol = ticker.upper()
    index = _INDICES.get(symbol.removeprefix("^"))
    found = index or _brazilian(symbol) or _renamed_suffix(symbol) or _share_class(symbol) or _pair(symbol)
    return None if found == symbol else found


def with_suggestion(error: AppError, ticker: str, among: Container[str] | None = None) -> AppError:
    """The error for an unknown ticker with ``did_you_mean``; the error itself without a guess, or not ``among``."""
    meant = suggestion(ticker)
    if meant is None or (among is not None and meant not in among):
        return error
    message = f"{error.message}; did you mean {meant}?"
    return type(error)(message, retry_after_s=error.retry_after_s, **{**error.context, "did_you_mean": meant})


def _brazilian(symbol: str) -> str | None:
    return f"{symbol}.SA" if _BRAZILIAN.fullmatch(symbol) else None


def _renamed_suffix(symbol: str) -> str | None:
    stem, dot, suffix = symbol.rpartition(".")
    renamed = _SUFFIXES.get(suffix) if dot and not suffixed(symbol) else None
    meant = f"{stem}.{renamed}"
    return meant if renamed and TICKER_PATTERN.fullmatch(meant) else None


def _share_class(symbol: str) -> str | None:
    found = _SHARE_CLASS.fullmatch(symbol)
    return f"{found[1]}-{found[2]}" if found and not suffixed(symbol) else None


def _pair(symbol: str) -> str | None:
    found = _PAIR.fullmatch(symbol)
    if found is None or found[2] not in _CURRENCIES:
        return None
    if found[1] in _COINS:
        return f"{found[1]}-{found[2]}"
    return f"{found[1]}{found[2]}=X" if found[1] in _CURRENCIES and found[1] != found[2] else None
