"""A ticker as part of a storage key, and back."""


def key_name(ticker: str) -> str:
    """The ticker in the alphabet of storage keys, different for every ticker.

    Keys cannot contain ``&``, which tickers can. ``^`` takes its place: in a ticker it only ever comes first.

    >>> [key_name(ticker) for ticker in ("M&M.NS", "M_M.NS", "^GSPC", "EURUSD=X")]
    ['M^M.NS', 'M_M.NS', '^GSPC', 'EURUSD=X']
    """
    return ticker.replace("&", "^")


def ticker_of(name: str) -> str:
    """The ticker of a key name: the inverse of ``key_name``.

    >>> [ticker_of(name) for name in ("M^M.NS", "M_M.NS", "^GSPC", "EURUSD=X")]
    ['M&M.NS', 'M_M.NS', '^GSPC', 'EURUSD=X']
    """
    return name[:1] + name[1:].replace("^", "&")
