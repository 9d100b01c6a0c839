"""The trading calendar of a ticker: by its suffix, by the price source's listing, or by a table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from errors import UnknownExchange

Kind = Literal["index", "share", "currency", "crypto", "other"]

NEW_YORK, FUTURES, CURRENCIES, CRYPTO = "XNYS", "CMES", "24/5", "24/7"

# every other calendar is a stock exchange's
KINDS: Mapping[str, Kind] = {CURRENCIES: "currency", CRYPTO: "crypto", FUTURES: "other", "IEPA": "other"}


@dataclass(frozen=True)
class Listing:
    """Where a symbol trades according to a price source, as in Yahoo's chart metadata; None if unknown.

    Attributes:
        exchange: Yahoo's code of the exchange, ``exchangeName``: "NMS", "SAO", "NSI".
        zone: IANA name of the exchange's time zone, ``exchangeTimezoneName``.
        instrument: ``instrumentType``: "EQUITY", "INDEX", "CRYPTOCURRENCY", ….
    """

    exchange: str | None = None
    zone: str | None = None
    instrument: str | None = None


_BY_SUFFIX = {
    "SA": "BVMF", "L": "XLON", "IL": "XLON", "DE": "XETR", "F": "XFRA", "HM": "XHAM", "DU": "XDUS", "SG": "XSTU",
    "BE": "XETR", "MU": "XETR", "HA": "XETR", "PA": "XPAR", "NX": "XPAR", "AS": "XAMS", "BR": "XBRU", "LS": "XLIS",
    "MI": "XMIL", "MC": "XMAD", "SW": "XSWX", "ST": "XSTO", "HE": "XHEL", "CO": "XCSE", "OL": "XOSL", "IC": "XICE",
    "IR": "XDUB", "VI": "XWBO", "WA": "XWAR", "PR": "XPRA", "BD": "XBUD", "IS": "XIST", "AT": "ASEX", "RO": "XBSE",
    "TL": "XTAL", "RG": "XRIS", "VS": "XLIT", "ME": "XMOS", "TO": "XTSE", "V": "XTSE", "CN": "XTSE", "NE": "XTSE",
    "T": "XTKS", "HK": "XHKG", "SS": "XSHG", "SZ": "XSHG", "TW": "XTAI", "TWO": "XTAI", "KS": "XKRX", "KQ": "XKRX",
    "NS": "XBOM", "BO": "XBOM", "KA": "XKAR", "AX": "XASX", "XA": "XASX", "NZ": "XNZE", "SI": "XSES", "BK": "XBKK",
    "JK": "XIDX", "KL": "XKLS", "PS": "XPHS", "TA": "XTAE", "SR": "XSAU", "JO": "XJSE", "MX": "XMEX", "BA": "XBUE",
    "SN": "XSGO", "LM": "XLIM", "CL": "XBOG", "NYB": "IEPA", "CBT": "CMES", "CME": "CMES", "CMX": "CMES",
    "NYM": "CMES",
}  # fmt: skip

# the codes of Yahoo's chart metadata
_BY_CODE = {
    "NMS": NEW_YORK, "NGM": NEW_YORK, "NCM": NEW_YORK, "NYQ": NEW_YORK, "ASE": NEW_YORK, "PCX": NEW_YORK,
    "BTS": NEW_YORK, "PNK": NEW_YORK, "OQB": NEW_YORK, "OQX": NEW_YORK, "OEM": NEW_YORK, "NAS": NEW_YORK,
    "NIM": NEW_YORK, "SNP": NEW_YORK, "DJI": NEW_YORK, "WCB": NEW_YORK, "CGI": NEW_YORK, "NYS": NEW_YORK,
    "CXI": NEW_YORK, "FGI": "XLON", "CCC": CRYPTO, "CCY": CURRENCIES, "CME": FUTURES, "CBT": FUTURES,
    "CMX": FUTURES, "NYM": FUTURES, "NYB": "IEPA", "SAO": "BVMF", "LSE": "XLON", "IOB": "XLON", "GER": "XETR",
    "DXE": "XETR", "FRA": "XFRA", "HAM": "XHAM", "DUS": "XDUS", "STU": "XSTU", "BER": "XETR", "MUN": "XETR",
    "HAN": "XETR", "PAR": "XPAR", "AMS": "XAMS", "BRU": "XBRU", "LIS": "XLIS", "MIL": "XMIL", "MCE": "XMAD",
    "EBS": "XSWX", "STO": "XSTO", "HEL": "XHEL", "CPH": "XCSE", "OSL": "XOSL", "ICE": "XICE", "ISE": "XDUB",
    "VIE": "XWBO", "WSE": "XWAR", "PRA": "XPRA", "BUD": "XBUD", "IST": "XIST", "ATH": "ASEX", "BVB": "XBSE",
    "TAL": "XTAL", "RIS": "XRIS", "LIT": "XLIT", "MCX": "XMOS", "TOR": "XTSE", "VAN": "XTSE", "CNQ": "XTSE",
    "NEO": "XTSE", "JPX": "XTKS", "OSA": "XTKS", "FSI": "XTKS", "HKG": "XHKG", "SHH": "XSHG", "SHZ": "XSHG",
    "TAI": "XTAI", "TWO": "XTAI", "KSC": "XKRX", "KOE": "XKRX", "NSI": "XBOM", "BSE": "XBOM", "KAR": "XKAR",
    "ASX": "XASX", "NZE": "XNZE", "SES": "XSES", "SET": "XBKK", "JKT": "XIDX", "KLS": "XKLS", "PHS": "XPHS",
    "PHP": "XPHS", "TLV": "XTAE", "SAU": "XSAU", "JNB": "XJSE", "MEX": "XMEX", "BUE": "XBUE", "SGO": "XSGO",
    "ZRH": "XSWX",
}  # fmt: skip

_BY_INSTRUMENT = {"CRYPTOCURRENCY": CRYPTO, "CURRENCY": CURRENCIES, "FUTURE": FUTURES}

# zones with one national market, whose holidays hold for every index published there
_BY_ZONE = {
    "America/New_York": NEW_YORK, "America/Sao_Paulo": "BVMF", "America/Toronto": "XTSE", "America/Mexico_City": "XMEX",
    "America/Buenos_Aires": "XBUE", "America/Argentina/Buenos_Aires": "XBUE", "America/Santiago": "XSGO",
    "America/Lima": "XLIM", "America/Bogota": "XBOG", "Europe/London": "XLON", "Europe/Dublin": "XDUB",
    "Europe/Berlin": "XETR", "Europe/Paris": "XPAR", "Europe/Amsterdam": "XAMS", "Europe/Brussels": "XBRU",
    "Europe/Lisbon": "XLIS", "Europe/Rome": "XMIL", "Europe/Madrid": "XMAD", "Europe/Zurich": "XSWX",
    "Europe/Stockholm": "XSTO", "Europe/Helsinki": "XHEL", "Europe/Copenhagen": "XCSE", "Europe/Oslo": "XOSL",
    "Europe/Vienna": "XWBO", "Europe/Warsaw": "XWAR", "Europe/Prague": "XPRA", "Europe/Budapest": "XBUD",
    "Europe/Istanbul": "XIST", "Europe/Athens": "ASEX", "Europe/Bucharest": "XBSE", "Europe/Moscow": "XMOS",
    "Asia/Tokyo": "XTKS", "Asia/Hong_Kong": "XHKG", "Asia/Shanghai": "XSHG", "Asia/Taipei": "XTAI",
    "Asia/Seoul": "XKRX", "Asia/Kolkata": "XBOM", "Asia/Calcutta": "XBOM", "Asia/Karachi": "XKAR",
    "Asia/Singapore": "XSES", "Asia/Bangkok": "XBKK", "Asia/Jakarta": "XIDX", "Asia/Kuala_Lumpur": "XKLS",
    "Asia/Manila": "XPHS", "Asia/Jerusalem": "XTAE", "Asia/Tel_Aviv": "XTAE", "Asia/Riyadh": "XSAU",
    "Africa/Johannesburg": "XJSE", "Australia/Sydney": "XASX", "Pacific/Auckland": "XNZE",
}  # fmt: skip

_BY_INDEX = {
    "^GSPC": NEW_YORK, "^SPX": NEW_YORK, "^DJI": NEW_YORK, "^DJT": NEW_YORK, "^DJU": NEW_YORK, "^DJA": NEW_YORK,
    "^IXIC": NEW_YORK, "^NDX": NEW_YORK, "^NYA": NEW_YORK, "^XAX": NEW_YORK, "^RUT": NEW_YORK, "^RUI": NEW_YORK,
    "^RUA": NEW_YORK, "^OEX": NEW_YORK, "^MID": NEW_YORK, "^SP400": NEW_YORK, "^SP600": NEW_YORK,
    "^SP500TR": NEW_YORK, "^W5000": NEW_YORK, "^SOX": NEW_YORK, "^VIX": NEW_YORK, "^VIX3M": NEW_YORK,
    "^VIX9D": NEW_YORK, "^VXN": NEW_YORK, "^VVIX": NEW_YORK, "^SKEW": NEW_YORK, "^GVZ": NEW_YORK, "^OVX": NEW_YORK,
    "^IRX": NEW_YORK, "^FVX": NEW_YORK, "^TNX": NEW_YORK, "^TYX": NEW_YORK, "^BKX": NEW_YORK, "^XAU": NEW_YORK,
    "^HGX": NEW_YORK, "^OSX": NEW_YORK, "^NBI": NEW_YORK, "^RUTTR": NEW_YORK, "^XNDX": NEW_YORK,
    "^BVSP": "BVMF", "^FTSE": "XLON", "^FTMC": "XLON", "^FTAS": "XLON", "^GDAXI": "XETR", "^MDAXI": "XETR",
    "^SDAXI": "XETR", "^TECDAX": "XETR", "^STOXX": "XETR", "^STOXX50E": "XETR", "^FCHI": "XPAR", "^N100": "XPAR",
    "^AEX": "XAMS", "^BFX": "XBRU", "^IBEX": "XMAD", "^SSMI": "XSWX", "^OMX": "XSTO", "^OMXS30": "XSTO",
    "^OMXH25": "XHEL", "^OMXC25": "XCSE", "^OSEAX": "XOSL", "^ATX": "XWBO", "^ISEQ": "XDUB", "^GSPTSE": "XTSE",
    "^N225": "XTKS", "^HSI": "XHKG", "^HSCE": "XHKG", "^TWII": "XTAI", "^KS11": "XKRX", "^KS200": "XKRX",
    "^KQ11": "XKRX", "^BSESN": "XBOM", "^NSEI": "XBOM", "^NSEBANK": "XBOM", "^AXJO": "XASX", "^AORD": "XASX",
    "^NZ50": "XNZE", "^STI": "XSES", "^JKSE": "XIDX", "^KLSE": "XKLS", "^MXX": "XMEX", "^MERV": "XBUE",
    "^IPSA": "XSGO",
}  # fmt: skip

# ISO 4217 codes and the coins that pairs are quoted in: New York writes share classes and preferred stock with a
# hyphen too (BRK-B, BAC-PL), but never with three letters of a currency
_QUOTE_CODES = (
    "AED ARS AUD BDT BGN BHD BRL CAD CHF CLP CNH CNY COP CZK DKK EGP EUR GBP GEL HKD HUF IDR ILS INR ISK JPY KES KRW "
    "KWD KZT LKR MAD MMK MXN MYR NGN NOK NZD PEN PHP PKR PLN QAR RON RSD RUB SAR SEK SGD THB TRY TWD UAH USD UYU VEF "
    "VES VND ZAR USDT USDC BUSD DAI BTC ETH BNB"
)
_QUOTE_CURRENCIES = frozenset(_QUOTE_CODES.split())
_PAIR = re.compile(r".+-([A-Z]{3,4})")


def exchange_of(ticker: str, listing: Listing | None = None) -> str:
    """The name of the trading calendar ``ticker`` follows.

    A known suffix names its exchange. For the rest (indices, crypto, unknown suffixes) the source's listing comes
    first, then the table of indices. A plain symbol without either trades in New York.

    Raises:
        UnknownExchange: none of them names an exchange.

    >>> exchange_of("PETR4.SA"), exchange_of("BRK-B"), exchange_of("BTC-TRY")
    ('BVMF', 'XNYS', '24/7')
    >>> exchange_of("^CNXIT", Listing(exchange="NSI", zone="Asia/Kolkata", instrument="INDEX"))
    'XBOM'
    """
    symbol = ticker.upper()
    found = _by_suffix(symbol) or _by_listing(listing) or _by_table(symbol)
    if found is None:
        raise UnknownExchange(
            f"no trading calendar is known for {ticker}: neither its symbol nor the price source names an exchange",
            ticker=ticker,
        )
    return found


_CURRENCY = {
    "XNYS": "USD", "BVMF": "BRL", "XLON": "GBp", "XETR": "EUR", "XFRA": "EUR", "XPAR": "EUR", "XAMS": "EUR",
    "XBRU": "EUR", "XLIS": "EUR", "XMIL": "EUR", "XMAD": "EUR", "XHEL": "EUR", "XDUB": "EUR", "XWBO": "EUR",
    "XSWX": "CHF", "XSTO": "SEK", "XCSE": "DKK", "XOSL": "NOK", "XTSE": "CAD", "XTKS": "JPY", "XHKG": "HKD",
    "XSHG": "CNY", "XTAI": "TWD", "XKRX": "KRW", "XBOM": "INR", "XASX": "AUD", "XNZE": "NZD", "XSES": "SGD",
    "XMEX": "MXN",
}  # fmt: skip


def currency_of(ticker: str) -> str | None:
    """The currency in which most shares on the ticker's exchange are quoted; None without a guess.

    >>> currency_of("PETR4.SA"), currency_of("AAPL"), currency_of("^UNKNOWN")
    ('BRL', 'USD', None)
    """
    calendar = _by_suffix(ticker.upper()) or _by_table(ticker.upper())
    return _CURRENCY.get(calendar or "")


def kind_of(ticker: str, exchange: str) -> Kind:
    """The kind of a ticker, as a metric's label.

    >>> [kind_of(*pair) for pair in (("^GSPC", "XNYS"), ("PETR4.SA", "BVMF"), ("EURUSD=X", "24/5"))]
    ['index', 'share', 'currency']
    """
    return "index" if ticker.startswith("^") else KINDS.get(exchange, "share")


def suffixed(symbol: str) -> bool:
    """Whether the part after the last dot is the suffix of a known exchange."""
    return _by_suffix(symbol.upper()) is not None


def _by_suffix(symbol: str) -> str | None:
    if symbol.endswith("=X"):
        return CURRENCIES
    if symbol.endswith("=F"):
        return FUTURES
    _, dot, suffix = symbol.rpartition(".")
    return _BY_SUFFIX.get(suffix) if dot else None


def _by_listing(listing: Listing | None) -> str | None:
    if listing is None:
        return None
    return (
        _BY_INSTRUMENT.get((listing.instrument or "").upper())
        or _BY_CODE.get((listing.exchange or "").upper())
        or _BY_ZONE.get(listing.zone or "")
    )


def _by_table(symbol: str) -> str | None:
    if symbol.startswith("^"):
        return _BY_INDEX.get(symbol)
    if "." in symbol:
        return None
    pair = _PAIR.fullmatch(symbol)
    return CRYPTO if pair and pair[1] in _QUOTE_CURRENCIES else NEW_YORK
